#include "args.h"
ARGS_BEGIN

// out = base + x, elementwise.
struct AddArgs {
    ADDRESSES(3)
    ADDRESS base, x, y;  // f32 [count]
    ARG_UINT count;
};

ARGS_END
