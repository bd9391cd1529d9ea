# What every test runs with. libllama and libgomp are not instrumented: ThreadSanitizer cannot see how their threads wait for each
# other. What it sees in our own code ends the process, so that no test passes beside a report.
# Tests run beside each other: threads of libgomp that spin while they wait, as they do by default, take the time of the others.
set(NEBULUS_TEST_ENVIRONMENT "TSAN_OPTIONS=ignore_noninstrumented_modules=1:halt_on_error=1;ASAN_OPTIONS=quarantine_size_mb=8;GOMP_SPINCOUNT=1000")

# A room is a folder of src/: its .c files make a library, its *_test.c files make one cmocka test each.
#   nebulus_room(name [DIR folder] [LIBS libraries...] [TEST_LIBS libraries...])
function(nebulus_room name)
    cmake_parse_arguments(ROOM "" "DIR" "LIBS;TEST_LIBS" ${ARGN})
    if(NOT ROOM_DIR)
        set(ROOM_DIR ${name})
    endif()
    file(GLOB sources CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/${ROOM_DIR}/*.c)
    set(tests ${sources})
    list(FILTER sources EXCLUDE REGEX "_test\\.c$")
    list(FILTER tests INCLUDE REGEX "_test\\.c$")
    add_library(nebulus_${name} STATIC ${sources})
    target_link_libraries(nebulus_${name} PUBLIC nebulus_flags ${ROOM_LIBS})
    foreach(test ${tests})
        get_filename_component(test_name ${test} NAME_WE)
        nebulus_test(${test_name} ${test} LIBS nebulus_${name} ${ROOM_TEST_LIBS})
    endforeach()
endfunction()

# nebulus_test(name sources... LIBS libraries...): a cmocka program, registered with ctest.
function(nebulus_test name)
    if(NOT NEBULUS_TESTS)
        return()
    endif()
    cmake_parse_arguments(TEST "" "" "LIBS" ${ARGN})
    add_executable(${name} ${TEST_UNPARSED_ARGUMENTS})
    target_link_libraries(${name} PRIVATE nebulus_flags ${TEST_LIBS} dep::cmocka)
    set_target_properties(${name} PROPERTIES RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/unit)
    add_test(NAME ${name} COMMAND ${name} WORKING_DIRECTORY ${PROJECT_SOURCE_DIR})
    set(timeout 120)
    if(NEBULUS_SANITIZE)
        set(timeout 300) # beside other tests, templates and workers take several times as long
    endif()
    set_tests_properties(${name} PROPERTIES TIMEOUT ${timeout} ENVIRONMENT "${NEBULUS_TEST_ENVIRONMENT}")
endfunction()

# nebulus_missing(what tests...): tests that cannot run here fail and say why; a check that leaves a part out must not look whole.
function(nebulus_missing what)
    foreach(name ${ARGN})
        add_test(NAME ${name} COMMAND ${CMAKE_COMMAND} -DWHAT=${what} -P ${PROJECT_SOURCE_DIR}/cmake/missing.cmake)
    endforeach()
endfunction()
