// Plots as simple shapes, for the screen and for SVG files alike.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

namespace vkqat {

struct PlotPoint {
    double x, y;
};

struct PlotSeries {
    std::string name;
    std::vector<PlotPoint> points;
    uint32_t color = 0;  // 0xRRGGBB
    bool line = true, marks = false;
    double width = 2;
};

struct PlotAxis {
    std::string title;
    bool log = false;
    bool bytes = false;        // labels as "1.5 GB"
    double low = 0, high = 0;  // equal: what the series need, with a margin
};

struct PlotStyle {
    uint32_t background = 0xffffff, text = 0x222222, dim = 0x777777, grid = 0xe4e6ea;
    double font = 12;
    bool frame = true;  // with titles and legend
};

struct Plot {
    std::vector<PlotSeries> series;
    PlotAxis x, y;
    std::vector<double> vertical;  // lines across, as of equal memory
};

struct PlotShape {
    enum class Kind { line, mark, text, box } kind;
    std::vector<std::pair<float, float>> points;  // line: all of it; mark and text: one; box: two corners
    uint32_t color = 0;
    float size = 1;  // width of a line, radius of a mark, height of text
    int anchor = 0;  // text: 0 begins, 1 centred, 2 ends at its point, which is its middle from top to bottom
    bool vertical = false;
    std::string text;
};

// A plot laid out in a rectangle from (0, 0).
struct PlotScene {
    std::vector<PlotShape> shapes;
    float width = 0, height = 0;
    float left = 0, top = 0, right = 0, bottom = 0;  // of the area of the data
    PlotAxis x, y;                                   // with their limits
    float to_x(double value) const;
    float to_y(double value) const;
    double from_x(float pixel) const;
};

PlotScene lay_out(const Plot& plot, float width, float height, const PlotStyle& style);
std::string to_svg(const PlotScene& scene, const PlotStyle& style);

// Ticks between two values: 1, 2 or 5 times a power of ten, or, on a logarithmic axis, powers of ten and their 2 and 5 multiples.
std::vector<double> ticks(double low, double high, bool log, size_t about);

}  // namespace vkqat
