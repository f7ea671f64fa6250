#include "gateway/usage/schema.h"

__asm__(".section .rodata\n"
        ".global usage_schema_sql\n"
        "usage_schema_sql:\n"
        ".incbin \"schemas/usage.sql\"\n"
        ".byte 0\n"
        ".previous\n");
