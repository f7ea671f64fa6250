/* isa.h - the instruction sets, for the inside of cpu/ (the public half is in matmul.h). */
#ifndef MILLRACE_WORKER_CPU_ISA_H
#define MILLRACE_WORKER_CPU_ISA_H

#include "worker/cpu/matmul.h"

/* The best one that the processor and the OS offer. */
enum cpu_isa cpu_isa_hardware(void);
/* That, or what MILLRACE_CPU_ISA asks for; an unknown or absent one is an error. */
enum err cpu_isa_wanted(enum cpu_isa *out, struct errmsg *why) MUST_CHECK;

#endif
