/* Tiles in plain C: for tests of all that stands around them, on any CPU. */
#define TILES portable
#include "../split.h"
