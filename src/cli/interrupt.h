// ^C as a value that commands look at, and a descriptor that wakes their poll(2). A second ^C that nobody has looked at
// ends the process. Threads: the main one.
#pragma once

#include <stdbool.h>
#include <stdint.h>

void interrupt_init(void); // catches SIGINT
bool interrupt_pending(void);
void interrupt_clear(void);
int interrupt_fd(void); // readable after ^C; -1 where no pipe could be made

// Sleeps, at most until ^C. Returns whether it was interrupted.
bool interrupt_sleep(uint64_t ms);
