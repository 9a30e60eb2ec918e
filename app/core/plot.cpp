#include "app/core/plot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "runtime/support/human.h"

namespace vkqat {
namespace {

double place(const PlotAxis& axis, double value) {
    if (axis.log) return (std::log(value) - std::log(axis.low)) / (std::log(axis.high) - std::log(axis.low));
    return (value - axis.low) / (axis.high - axis.low);
}

bool shown(const PlotAxis& axis, double value) { return std::isfinite(value) && (!axis.log || value > 0); }

PlotAxis with_limits(PlotAxis axis, const std::vector<PlotSeries>& series, double PlotPoint::*member) {
    if (axis.low < axis.high && (!axis.log || axis.low > 0)) return axis;
    double low = INFINITY, high = -INFINITY;
    for (const PlotSeries& s : series)
        for (const PlotPoint& p : s.points)
            if (shown(axis, p.*member)) low = std::min(low, p.*member), high = std::max(high, p.*member);
    if (!(low <= high)) low = axis.log ? 1 : 0, high = axis.log ? 10 : 1;
    if (axis.log) {
        const double margin = high > low ? std::pow(high / low, 0.05) : 1.2;
        axis.low = low / margin, axis.high = high * margin;
    } else {
        const double margin = high > low ? (high - low) * 0.05 : std::max(std::abs(low) * 0.1, 1e-9);
        axis.low = low - margin, axis.high = high + margin;
        if (low >= 0 && axis.low < 0) axis.low = 0;
    }
    return axis;
}

std::string label(const PlotAxis& axis, double value) {
    if (axis.bytes) return human_bytes(value);
    const double size = std::abs(value);
    if (size >= 10000 || (size > 0 && size < 0.001)) {
        if (size >= 1e4 && size < 1e13) return human_count(value);
        return fmt::format("{:.0e}", value);
    }
    return fmt::format("{:.6g}", value);
}

std::string escaped(const std::string& text) {
    std::string result;
    for (char c : text) {
        if (c == '&')
            result += "&amp;";
        else if (c == '<')
            result += "&lt;";
        else if (c == '>')
            result += "&gt;";
        else if (c == '"')
            result += "&quot;";
        else if (uint8_t(c) >= 0x20)
            result += c;
    }
    return result;
}

}  // namespace

std::vector<double> ticks(double low, double high, bool log, size_t about) {
    std::vector<double> result;
    if (!(low < high) || about == 0 || !std::isfinite(low) || !std::isfinite(high)) return result;
    if (log && low > 0) {
        const double decades = std::log10(high / low);
        if (decades > 0.7) {
            const int step = std::max(1, int(std::ceil(decades / double(about))));
            for (int e = int(std::floor(std::log10(low))); e <= int(std::ceil(std::log10(high))); e++)
                for (double m : {1.0, 2.0, 5.0}) {
                    if (m > 1 && decades * 3 > double(about) * 1.5) continue;
                    if (m == 1 && e % step != 0) continue;
                    const double value = m * std::pow(10.0, e);
                    if (value >= low && value <= high) result.push_back(value);
                }
            return result;
        }
    }
    const double raw = (high - low) / double(about), power = std::pow(10.0, std::floor(std::log10(raw)));
    const double step = raw / power > 5 ? 10 * power : raw / power > 2 ? 5 * power : raw / power > 1 ? 2 * power : power;
    for (double i = std::ceil(low / step); i * step <= high && result.size() < 100; i++) result.push_back(i == 0 ? 0 : i * step);
    return result;
}

float PlotScene::to_x(double value) const { return left + float(place(x, value)) * (right - left); }
float PlotScene::to_y(double value) const { return bottom - float(place(y, value)) * (bottom - top); }
double PlotScene::from_x(float pixel) const {
    const double share = (pixel - left) / (right - left);
    return x.log ? x.low * std::pow(x.high / x.low, share) : x.low + share * (x.high - x.low);
}

PlotScene lay_out(const Plot& plot, float width, float height, const PlotStyle& style) {
    PlotScene scene;
    const auto font = float(style.font);
    scene.width = width, scene.height = height;
    scene.x = with_limits(plot.x, plot.series, &PlotPoint::x);
    scene.y = with_limits(plot.y, plot.series, &PlotPoint::y);
    scene.left = font * (plot.y.title.empty() ? 4.6f : 6.2f), scene.right = width - font, scene.top = font,
    scene.bottom = height - font * (plot.x.title.empty() ? 2 : 3.6f);
    if (scene.right - scene.left < font || scene.bottom - scene.top < font) return scene;
    auto text = [&](float x, float y, int anchor, std::string t, uint32_t color, bool vertical = false) {
        scene.shapes.push_back({PlotShape::Kind::text, {{x, y}}, color, font, anchor, vertical, std::move(t)});
    };
    auto line = [&](float x0, float y0, float x1, float y1, uint32_t color, float w) {
        scene.shapes.push_back({PlotShape::Kind::line, {{x0, y0}, {x1, y1}}, color, w, 0, false, {}});
    };
    for (double value : ticks(scene.x.low, scene.x.high, scene.x.log, size_t((scene.right - scene.left) / (font * 7)) + 1)) {
        const float at = scene.to_x(value);
        line(at, scene.top, at, scene.bottom, style.grid, 1);
        text(at, scene.bottom + font * 1.1f, 1, label(scene.x, value), style.dim);
    }
    for (double value : ticks(scene.y.low, scene.y.high, scene.y.log, size_t((scene.bottom - scene.top) / (font * 3.5f)) + 1)) {
        const float at = scene.to_y(value);
        line(scene.left, at, scene.right, at, style.grid, 1);
        text(scene.left - font * 0.6f, at, 2, label(scene.y, value), style.dim);
    }
    for (double value : plot.vertical) {
        if (!shown(scene.x, value) || value < scene.x.low || value > scene.x.high) continue;
        line(scene.to_x(value), scene.top, scene.to_x(value), scene.bottom, style.dim, 1.5f);
        text(scene.to_x(value) + font * 0.3f, scene.top + font * 0.7f, 0, label(scene.x, value), style.dim);
    }
    if (!plot.x.title.empty()) text((scene.left + scene.right) / 2, height - font * 0.9f, 1, plot.x.title, style.text);
    if (!plot.y.title.empty()) text(font * 0.9f, (scene.top + scene.bottom) / 2, 1, plot.y.title, style.text, true);
    for (const PlotSeries& s : plot.series) {
        PlotShape polyline{PlotShape::Kind::line, {}, s.color, float(s.width), 0, false, {}};
        auto end_line = [&] {
            if (polyline.points.size() > 1) scene.shapes.push_back(polyline);
            polyline.points.clear();
        };
        for (const PlotPoint& p : s.points) {
            if (!shown(scene.x, p.x) || !shown(scene.y, p.y)) {
                end_line();
                continue;
            }
            const float x = std::clamp(scene.to_x(p.x), -1e4f, 1e5f),
                        y = std::clamp(scene.to_y(p.y), scene.top - 2, scene.bottom + 2);
            if (s.line) polyline.points.emplace_back(x, y);
            if (s.marks) scene.shapes.push_back({PlotShape::Kind::mark, {{x, y}}, s.color, font * 0.38f, 0, false, s.name});
        }
        end_line();
    }
    if (style.frame) {
        float y = scene.top + font * 0.9f;
        for (const PlotSeries& s : plot.series) {
            if (s.name.empty() || s.points.empty()) continue;
            text(scene.right - font * 1.6f, y, 2, s.name, style.text);
            scene.shapes.push_back({PlotShape::Kind::box,
                                    {{scene.right - font * 1.3f, y - font * 0.2f}, {scene.right - font * 0.3f, y + font * 0.2f}},
                                    s.color,
                                    1,
                                    0,
                                    false,
                                    {}});
            y += font * 1.5f;
            if (y > scene.bottom - font) break;
        }
    }
    return scene;
}

std::string to_svg(const PlotScene& scene, const PlotStyle& style) {
    std::string svg = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0}\" height=\"{1}\" viewBox=\"0 0 {0} {1}\" "
        "font-family=\"Inter, sans-serif\">\n<rect width=\"100%\" height=\"100%\" fill=\"#{2:06x}\"/>\n",
        scene.width, scene.height, style.background);
    for (const PlotShape& s : scene.shapes) {
        switch (s.kind) {
            case PlotShape::Kind::line: {
                svg += "<polyline fill=\"none\" points=\"";
                for (auto [x, y] : s.points) svg += fmt::format("{:.2f},{:.2f} ", x, y);
                svg +=
                    fmt::format("\" stroke=\"#{:06x}\" stroke-width=\"{:.2f}\" stroke-linejoin=\"round\"/>\n", s.color, s.size);
                break;
            }
            case PlotShape::Kind::mark:
                svg +=
                    fmt::format("<circle cx=\"{:.2f}\" cy=\"{:.2f}\" r=\"{:.2f}\" fill=\"#{:06x}\"><title>{}</title></circle>\n",
                                s.points[0].first, s.points[0].second, s.size, s.color, escaped(s.text));
                break;
            case PlotShape::Kind::box:
                svg += fmt::format("<rect x=\"{:.2f}\" y=\"{:.2f}\" width=\"{:.2f}\" height=\"{:.2f}\" fill=\"#{:06x}\"/>\n",
                                   s.points[0].first, s.points[0].second, s.points[1].first - s.points[0].first,
                                   s.points[1].second - s.points[0].second, s.color);
                break;
            case PlotShape::Kind::text: {
                const char* anchors[] = {"start", "middle", "end"};
                auto [x, y] = s.points[0];
                const std::string turn = s.vertical ? fmt::format(" transform=\"rotate(-90 {:.2f} {:.2f})\"", x, y) : "";
                svg += fmt::format(
                    "<text x=\"{:.2f}\" y=\"{:.2f}\" dy=\"0.35em\" text-anchor=\"{}\" font-size=\"{:.1f}\" "
                    "fill=\"#{:06x}\"{}>{}</text>\n",
                    x, y, anchors[s.anchor], s.size, s.color, turn, escaped(s.text));
                break;
            }
        }
    }
    return svg + "</svg>\n";
}

}  // namespace vkqat
