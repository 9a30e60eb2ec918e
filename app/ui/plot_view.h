// A plot (app/core/plot.h) on the screen.
#pragma once

#include "app/core/plot.h"
#include "app/ui/theme.h"

namespace vkqat {

PlotStyle plot_style(const Theme& theme);
uint32_t plot_color(const Theme& theme, size_t series);  // 0xRRGGBB
// Draws it at the cursor and takes the room. `at` is where it stands, `hovered` whether the mouse is over its data.
struct DrawnPlot {
    PlotScene scene;
    ImVec2 at;
    bool hovered, clicked;
};
DrawnPlot draw_plot(const Theme& theme, const char* id, const Plot& plot, ImVec2 size);

}  // namespace vkqat
