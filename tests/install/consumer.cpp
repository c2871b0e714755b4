// The C program again, as C++.
#include "consumer.c"
