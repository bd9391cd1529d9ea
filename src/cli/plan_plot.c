// A picture of where the pair wins, for terminals and for pipes.
#include "cli/plan_parts.h"
#include "cli/term.h"

#include <math.h>
#include <stdio.h>
#include <unistd.h>

enum { TEXT_COLUMNS = 52, BAR_LEAST = 20, BAR_MOST = 64 };

static int bar_columns(void) {
    int room = term_width(STDOUT_FILENO) - TEXT_COLUMNS;
    return room < BAR_LEAST ? BAR_LEAST : room > BAR_MOST ? BAR_MOST : room;
}

// The bar's end, and the mark where the pair is as fast as the best single device.
static void print_bar(double speedup, double most, int columns) {
    int end = (int)lround(speedup / most * columns), mark = (int)lround(1 / most * columns);
    printf("%s", term_style(STDOUT_FILENO, speedup > 1 ? STYLE_GREEN : STYLE_DIM));
    for (int i = 0; i < columns; i++) {
        if (i == mark)
            printf("│");
        else
            printf("%s", i < end ? (speedup > 1 ? "█" : "░") : " ");
    }
    printf("%s", term_style(STDOUT_FILENO, STYLE_END));
}

void plan_plot_print(const struct plot_point *points, size_t n, const char *what) {
    int columns = bar_columns();
    double most = 1.5;
    for (size_t i = 0; i < n; i++)
        if (points[i].speedup > most) most = points[i].speedup;
    printf("\nThe pair against the fastest single device, by %s (│ = equally fast; right: what is planned)\n", what);
    for (size_t i = 0; i < n; i++) {
        printf("%11s ", points[i].label);
        print_bar(points[i].speedup, most, columns);
        if (points[i].speedup > 0)
            printf(" %5.2fx  %s\n", points[i].speedup, points[i].best);
        else
            printf("      -  %s\n", points[i].best);
    }
}
