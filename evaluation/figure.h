// Plots as plain data, and their pictures as SVG.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace vkqat {

enum class AxisFormat { number, bytes, percent, seconds, count };

struct Axis {
    std::string label;  // with its unit
    AxisFormat format = AxisFormat::number;
    bool logarithmic = false;
    std::optional<double> lowest, highest;  // otherwise by the data
    std::vector<std::string> names;         // of bars: their places are 0, 1, ... from the top
};

enum class Mark { line, points, line_and_points, bars, front, histogram };

struct Series {
    std::string name;
    Mark mark = Mark::line;
    std::vector<double> x, y;   // a value that is not finite is a gap. bars: y is the length, x unused; histogram: x has one
                                // more, the edges. front: steps between the points that are given
    std::vector<double> error;  // of y, drawn as whiskers; may be empty
    std::vector<std::string> labels;  // beside each point; may be empty
    std::optional<size_t> like;       // has the colour and marker of the series with this number, otherwise its own
    bool faint = false;               // a thin line behind another one
};

struct Rule {  // a vertical line; dashed unless there is a histogram
    double x = 0;
    std::string label;
};

struct Figure {
    std::string title, subtitle;
    Axis x, y;
    std::vector<Series> series;
    std::vector<Rule> rules;
};

enum class Theme { light, dark, automatic };  // automatic: what the reader's browser prefers

// A whole SVG document. Colours are told apart by people who see red and green alike; series also differ in their markers.
std::string svg(const Figure& figure, Theme theme, int width = 800, int height = 480);

// One HTML file without references to others, in the reader's theme: sections of pictures, with a table below them.
struct Section {
    std::string heading, text;
    std::vector<Figure> figures;
    std::vector<std::vector<std::string>> table;  // first row: headings
};
std::string html_report(std::string_view title, const std::vector<Section>& sections);

// Text in XML and HTML, control characters replaced.
std::string escape_xml(std::string_view text);

}  // namespace vkqat
