// Subjects that outlive the question. Pure functions. Threads: any.
#pragma once

#include "trust/policy.h"

// A copy of all that it says, in one block of memory: free() it. NULL: out of memory.
struct policy_subject *policy_subject_copy(const struct policy_subject *who);
