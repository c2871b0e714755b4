# find_package(Tenure 0.1 REQUIRED), then target_link_libraries(program PRIVATE Tenure::tenure): the shared library;
# Tenure::tenure_static: a part of the program.

# By where this file really is: /lib may be a link to /usr/lib, and the prefix may have moved.
get_filename_component(_tenure_prefix "${CMAKE_CURRENT_LIST_FILE}" REALPATH)
get_filename_component(_tenure_prefix "${_tenure_prefix}/../@UP@" ABSOLUTE)

foreach(_tenure_file IN ITEMS include/tenure.h @LIB@/@SHARED@ @LIB@/libtenure.a)
    if(NOT EXISTS "${_tenure_prefix}/${_tenure_file}")
        set(Tenure_FOUND FALSE)
        set(Tenure_NOT_FOUND_MESSAGE "${_tenure_prefix}/${_tenure_file} is missing: install Tenure again")
        return()
    endif()
endforeach()

if(NOT TARGET Tenure::tenure)
    add_library(Tenure::tenure SHARED IMPORTED)
    set_target_properties(Tenure::tenure PROPERTIES
        IMPORTED_LOCATION "${_tenure_prefix}/@LIB@/@SHARED@"
        IMPORTED_SONAME "@SONAME@"
        INTERFACE_INCLUDE_DIRECTORIES "${_tenure_prefix}/include")
endif()

if(NOT TARGET Tenure::tenure_static)
    add_library(Tenure::tenure_static STATIC IMPORTED)
    set_target_properties(Tenure::tenure_static PROPERTIES
        IMPORTED_LOCATION "${_tenure_prefix}/@LIB@/libtenure.a"
        IMPORTED_LINK_INTERFACE_LANGUAGES C
        INTERFACE_LINK_LIBRARIES "@PRIVATE_LIST@"
        INTERFACE_INCLUDE_DIRECTORIES "${_tenure_prefix}/include")
endif()

unset(_tenure_prefix)
unset(_tenure_file)
