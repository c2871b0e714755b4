// Runs the tests of one program, and counts them in the way that tests/tools/summary.sh reads. What was skipped failed.
#include <gtest/gtest.h>

#include <cstdio>

int main(int argc, char **argv)
{
    testing::InitGoogleTest(&argc, argv);
    const int status = RUN_ALL_TESTS();
    const auto *tests = testing::UnitTest::GetInstance();
    const int passed = tests->successful_test_count();
    const int failed = tests->test_to_run_count() - passed;
    std::printf("%d passed, %d failed\n", passed, failed);
    return status != 0 || failed != 0 || passed == 0 ? 1 : 0;
}
