/* main.c - millrace: finds the subcommand and runs it. */
#include <stdio.h>

int main(void)
{
    fprintf(stderr, "usage: millrace serve|usage ...\n");
    return 2;
}
