// The C ABI of the engine, docs/c-api.md.
#include "../../../capi/include/gesso.h"
