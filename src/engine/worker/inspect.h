// What `nebulus worker --inspect FILE` and `--devices` print: one JSON object on stdout. They return the process's exit
// code.
#pragma once

int inspect_file(const char *path);
int inspect_devices(void);
