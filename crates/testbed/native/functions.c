// The table of exported functions, in the order of the stubs, and a call count for each.
#include "counts.h"

#include <stdatomic.h>

#define SINCE(first, ...) first
#define EARLY(name, ...) void name(void);
#define FUNCTION EARLY
#include FUNCTIONS
#undef EARLY

const struct function_row standin_functions[] = {
#define EARLY(name, implementation, ...) {#name, name, SINCE(__VA_ARGS__ + 0, )},
#include FUNCTIONS
#undef EARLY
};

const unsigned standin_function_count = sizeof standin_functions / sizeof *standin_functions;

#define EARLY(...) +1
_Atomic uint64_t standin_calls[0
#include FUNCTIONS
];

const char standin_soname[] = SONAME;
