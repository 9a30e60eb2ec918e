#include "evaluation/figure.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "evaluation/text.h"
#include "runtime/text/utf8.h"

namespace vkqat {
namespace {

constexpr int colours = 7;
// Okabe and Ito's palette, darkened or lightened where it would be faint.
constexpr const char* light_series[colours] = {"#0072b2", "#d55e00", "#00805c", "#a8508a", "#a66f00", "#2a7fb8", "#555555"};
constexpr const char* dark_series[colours] = {"#56b4e9", "#ff8c42", "#2fd1a3", "#e79ac8", "#f0c040", "#9bd3f5", "#bbbbbb"};

std::string palette(bool dark) {
    std::string css = ".halo{paint-order:stroke;stroke-width:3px;stroke-linejoin:round}";
    css += dark ? ".halo{stroke:#14181d}.bg{fill:#14181d}.text{fill:#e6e9ed}.soft{fill:#a5adb8}.grid{stroke:#333b45}.axis{stroke:"
                  "#8a94a1}"
                : ".halo{stroke:#ffffff}.bg{fill:#ffffff}.text{fill:#1c2127}.soft{fill:#57606a}.grid{stroke:#dde2e8}.axis{stroke:"
                  "#6b7480}";
    for (int i = 0; i < colours; i++) {
        const char* c = (dark ? dark_series : light_series)[i];
        css += fmt::format(".s{}{{stroke:{}}}.f{}{{fill:{}}}", i, c, i, c);
    }
    return css;
}

std::string style(Theme theme) {
    std::string css = palette(theme == Theme::dark);
    if (theme == Theme::automatic) css += "@media(prefers-color-scheme:dark){" + palette(true) + "}";
    return css;
}

std::string number(double v) {
    const double a = std::abs(v);
    if (a != 0 && (a >= 1e6 || a < 1e-4)) return fmt::format("{:.3g}", v);
    std::string text = fmt::format("{:.6g}", v);
    return text;
}

std::string with_unit(double v, const char* last) {
    static constexpr const char* prefix[] = {"", "k", "M", "G", "T", "P"};
    int i = 0;
    for (; std::abs(v) >= 1000 && i < 5; i++) v /= 1000;
    return fmt::format("{:.4g}{}{}{}", v, *last ? " " : "", prefix[i], last);
}

std::string format(double v, AxisFormat f) {
    switch (f) {
        case AxisFormat::bytes: return with_unit(v, "B");
        case AxisFormat::count: return with_unit(v, "");
        case AxisFormat::percent: return fmt::format("{:.4g} %", 100 * v);
        case AxisFormat::seconds:
            return v == 0               ? "0"
                   : std::abs(v) < 1e-3 ? fmt::format("{:.4g} µs", 1e6 * v)
                   : std::abs(v) < 1    ? fmt::format("{:.4g} ms", 1e3 * v)
                                        : fmt::format("{:.4g} s", v);
        case AxisFormat::number: break;
    }
    return number(v);
}

// A width in pixels, nearly: the font is the reader's.
double text_width(std::string_view text, double size) { return 0.61 * size * double(count_characters(text)); }

std::string shortened(const std::string& text, size_t most) {
    if (count_characters(text) <= most) return text;
    std::string out;
    size_t at = 0;
    for (size_t n = 0; n + 1 < most; n++) {
        const unsigned length = utf8_at(text, at).length;
        out += text.substr(at, length);
        at += length;
    }
    return out + "…";
}

// A scale from values to pixels, with its ticks.
struct Scale {
    double low = 0, high = 1, from = 0, to = 1;
    bool logarithmic = false;
    std::vector<double> ticks;

    double operator()(double v) const {
        if (logarithmic) return from + (std::log(v) - std::log(low)) / (std::log(high) - std::log(low)) * (to - from);
        return from + (v - low) / (high - low) * (to - from);
    }
    bool shows(double v) const { return std::isfinite(v) && (!logarithmic || v > 0); }
};

std::vector<double> even_ticks(double low, double high, int wanted) {
    const double raw = (high - low) / wanted, power = std::pow(10, std::floor(std::log10(raw)));
    const double step = power * (raw / power <= 1 ? 1 : raw / power <= 2 ? 2 : raw / power <= 5 ? 5 : 10);
    std::vector<double> ticks;
    for (double v = std::ceil(low / step) * step; v <= high + 1e-9 * step; v += step)
        ticks.push_back(std::abs(v) < 1e-9 * step ? 0 : v);
    return ticks;
}

Scale make_scale(const Axis& axis, double low, double high, double from, double to, int wanted, bool from_zero) {
    Scale s{.from = from, .to = to, .logarithmic = axis.logarithmic && low > 0};
    if (from_zero && !s.logarithmic) low = std::min(low, 0.0);
    if (!(low < high)) {
        const double spread = low != 0 ? 0.1 * std::abs(low) : 1;
        low -= s.logarithmic ? 0.5 * low : spread;
        high += s.logarithmic ? high : spread;
    }
    if (s.logarithmic) {
        const double margin = std::pow(high / low, 0.06);
        s.low = axis.lowest.value_or(low / margin);
        s.high = axis.highest.value_or(high * margin);
        const double decades = std::log10(s.high / s.low);
        const std::vector<double> steps = decades > 4   ? std::vector<double>{1}
                                          : decades > 1 ? std::vector<double>{1, 2, 5}
                                                        : std::vector<double>{1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8};
        for (double decade = std::pow(10, std::floor(std::log10(s.low))); decade <= s.high; decade *= 10)
            for (double step : steps)
                if (decade * step >= s.low && decade * step <= s.high) s.ticks.push_back(decade * step);
        if (s.ticks.size() < 3) s.ticks = even_ticks(s.low, s.high, wanted);
        if (s.ticks.size() > size_t(2 * wanted)) {
            std::vector<double> fewer;
            for (size_t i = 0; i < s.ticks.size(); i += 2) fewer.push_back(s.ticks[i]);
            s.ticks = fewer;
        }
        return s;
    }
    const double margin = 0.07 * (high - low);
    s.low = axis.lowest.value_or(from_zero && low == 0 ? 0 : low - margin);
    s.high = axis.highest.value_or(high + margin);
    s.ticks = even_ticks(s.low, s.high, wanted);
    return s;
}

struct Box {
    double x, y, w, h;
    bool overlaps(const Box& b) const { return x < b.x + b.w && b.x < x + w && y < b.y + b.h && b.y < y + h; }
};

class Canvas {
public:
    std::string out;
    void line(double x1, double y1, double x2, double y2, std::string_view classes, std::string_view more = "") {
        out += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" class=\"{}\" {}/>\n", x1, y1, x2, y2,
                           classes, more);
    }
    void text(double x, double y, std::string_view what, std::string_view anchor, double size, std::string_view classes = "text",
              std::string_view more = "") {
        out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" text-anchor=\"{}\" font-size=\"{}\" class=\"{}\" {}>{}</text>\n", x,
                           y, anchor, size, classes, more, escape_xml(what));
    }
    void rect(const Box& b, std::string_view classes, std::string_view more = "") {
        out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" class=\"{}\" {}/>\n", b.x, b.y,
                           std::max(0.0, b.w), std::max(0.0, b.h), classes, more);
    }
    void marker(double x, double y, size_t series, double r = 4.2) {
        const size_t colour = series % colours;
        switch (series % 4) {
            case 0: out += fmt::format("<circle cx=\"{:.1f}\" cy=\"{:.1f}\" r=\"{}\" class=\"f{}\"/>\n", x, y, r, colour); break;
            case 1: rect({x - r * 0.9, y - r * 0.9, r * 1.8, r * 1.8}, fmt::format("f{}", colour)); break;
            case 2:
                out += fmt::format("<path d=\"M{:.1f} {:.1f}l{} {}h{}z\" class=\"f{}\"/>\n", x, y - r * 1.15, r * 1.1, r * 2,
                                   -r * 2.2, colour);
                break;
            default:
                out += fmt::format("<path d=\"M{:.1f} {:.1f}l{} {}l{} {}l{} {}z\" class=\"f{}\"/>\n", x, y - r * 1.25, r * 1.25,
                                   r * 1.25, -r * 1.25, r * 1.25, -r * 1.25, -r * 1.25, colour);
        }
    }
};

size_t colour_of(const Figure& f, size_t series) { return f.series[series].like.value_or(series); }

void draw_path(Canvas& c, const Series& s, size_t index, const Scale& x, const Scale& y) {
    std::string path;
    bool pen = false;
    double last_y = 0;
    for (size_t i = 0; i < s.x.size(); i++) {
        if (!x.shows(s.x[i]) || !y.shows(s.y[i])) {
            pen = false;
            continue;
        }
        const double px = x(s.x[i]), py = y(s.y[i]);
        if (pen && s.mark == Mark::front) path += fmt::format("L{:.1f} {:.1f}", px, last_y);
        path += fmt::format("{}{:.1f} {:.1f}", pen ? "L" : "M", px, py);
        pen = true;
        last_y = py;
    }
    c.out += fmt::format("<path d=\"{}\" fill=\"none\" class=\"s{}\" stroke-linejoin=\"round\" {}/>\n", path, index % colours,
                         s.mark == Mark::front ? "stroke-width=\"2\" stroke-dasharray=\"6 4\""
                         : s.faint             ? "stroke-width=\"1\" opacity=\"0.55\""
                                               : "stroke-width=\"2\"");
}

// Labels beside points, where they cover neither points nor each other; one that finds no place is left out.
void draw_labels(Canvas& c, const Figure& f, const Scale& x, const Scale& y, const Box& area, const Box& legend, double width) {
    std::vector<Box> taken, lines;  // lines: better not covered
    for (const Series& s : f.series)
        if (s.mark == Mark::points || s.mark == Mark::line_and_points)
            for (size_t i = 0; i < s.x.size(); i++)
                if (x.shows(s.x[i]) && y.shows(s.y[i])) taken.push_back({x(s.x[i]) - 5, y(s.y[i]) - 5, 10, 10});
    for (const Series& s : f.series)
        if (s.mark == Mark::front)
            for (size_t i = 1; i < s.x.size(); i++) {
                const double x1 = x(s.x[i - 1]), y1 = y(s.y[i - 1]), x2 = x(s.x[i]), y2 = y(s.y[i]);
                lines.push_back({std::min(x1, x2), y1 - 1, std::abs(x2 - x1), 2});
                lines.push_back({x2 - 1, std::min(y1, y2), 2, std::abs(y2 - y1)});
            }
    for (const Series& s : f.series)
        for (size_t i = 0; i < std::min(s.labels.size(), s.x.size()); i++) {
            if (s.labels[i].empty() || !x.shows(s.x[i]) || !y.shows(s.y[i])) continue;
            const std::string text = shortened(s.labels[i], 30);
            const double px = x(s.x[i]), py = y(s.y[i]), w = text_width(text, 11.5), h = 13;
            const Box places[] = {{px + 8, py - 7, w, h},      {px - w / 2, py - 21, w, h}, {px - w / 2, py + 8, w, h},
                                  {px - w - 8, py - 7, w, h},  {px + 6, py - 20, w, h},     {px + 6, py + 8, w, h},
                                  {px - w - 6, py - 20, w, h}, {px - w - 6, py + 8, w, h},  {px + 8, py - 2, w, h},
                                  {px + 8, py - 12, w, h},     {px + 6, py - 32, w, h},     {px + 6, py + 20, w, h}};
            auto is_free = [&](const Box& b, const std::vector<Box>& of) {
                return std::none_of(of.begin(), of.end(), [&](const Box& t) { return t.overlaps(b); });
            };
            auto allowed = [&](const Box& b) {
                return b.x >= area.x && b.x + b.w <= width && !b.overlaps(legend) && b.y >= area.y &&
                       b.y + b.h <= area.y + area.h && is_free(b, taken);
            };
            auto place =
                std::find_if(std::begin(places), std::end(places), [&](const Box& b) { return allowed(b) && is_free(b, lines); });
            if (place == std::end(places)) place = std::find_if(std::begin(places), std::end(places), allowed);
            if (place == std::end(places)) continue;
            c.text(place->x, place->y + 10.5, text, "start", 11.5, "text halo");
            taken.push_back(*place);
        }
}

void draw_bars(Canvas& c, const Figure& f, const Scale& x, const Box& area) {
    size_t rows = f.y.names.size(), groups = 0;
    for (const Series& s : f.series) groups += s.mark == Mark::bars;
    const double slot = area.h / double(std::max<size_t>(1, rows)),
                 bar = std::min(22.0, 0.78 * slot / double(std::max<size_t>(1, groups)));
    size_t g = 0;
    for (size_t n = 0; n < f.series.size(); n++) {
        const Series& s = f.series[n];
        if (s.mark != Mark::bars) continue;
        for (size_t i = 0; i < std::min(rows, s.y.size()); i++) {
            if (!std::isfinite(s.y[i])) continue;
            const double top = area.y + slot * (double(i) + 0.5) + (double(g) - double(groups) / 2) * bar;
            const double zero = x(std::max(0.0, x.low)), end = x(s.y[i]);
            c.rect({std::min(zero, end), top, std::abs(end - zero), bar - 1.5}, fmt::format("f{}", n % colours));
            const std::string label = i < s.labels.size() ? s.labels[i] : format(s.y[i], f.x.format);
            c.text(std::max(zero, end) + 5, top + bar / 2 + 3.5, label, "start", std::min(11.0, bar + 2), "soft");
        }
        g++;
    }
}

}  // namespace

std::string escape_xml(std::string_view text) {
    std::string out;
    for (char c : utf8_lossy(text)) switch (c) {
            case '&': out += "&amp;"; break;
            case '<': out += "&lt;"; break;
            case '>': out += "&gt;"; break;
            case '"': out += "&quot;"; break;
            default: out += uint8_t(c) < 32 ? ' ' : c;
        }
    return out;
}

std::string svg(const Figure& f, Theme theme, int width, int height) {
    const bool bars = std::any_of(f.series.begin(), f.series.end(), [](const Series& s) { return s.mark == Mark::bars; });
    const bool from_zero =
        bars || std::any_of(f.series.begin(), f.series.end(), [](const Series& s) { return s.mark == Mark::histogram; });
    size_t named = 0, longest = 0;
    for (const Series& s : f.series)
        if (!s.name.empty()) {
            named++;
            longest = std::max(longest, std::min<size_t>(32, count_characters(s.name)));
        }
    const bool legend = named > 1;
    double left = 72;
    if (bars) {
        for (const std::string& name : f.y.names) left = std::max(left, 16 + text_width(shortened(name, 34), 11.5));
        height = std::max(height, int(120 + 17.0 * double(f.y.names.size())));
    }
    const double right = (legend ? 44 + 6.6 * double(longest) : 26) + (bars ? 60 : 0);
    const bool labelled = std::any_of(f.rules.begin(), f.rules.end(), [](const Rule& r) { return !r.label.empty(); });
    const double top = (f.subtitle.empty() ? 48.0 : 66.0) + (labelled ? 20 : 0);
    const Box area{left, top, width - left - right, height - top - 56};

    double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;
    auto span = [](double v, bool logarithmic, double& low, double& high) {
        if (!std::isfinite(v) || (logarithmic && v <= 0)) return;
        low = std::min(low, v);
        high = std::max(high, v);
    };
    for (const Series& s : f.series) {
        for (double v : bars ? s.y : s.x) span(v, f.x.logarithmic, x_low, x_high);
        for (size_t i = 0; i < s.y.size() && !bars; i++) {
            const double e = i < s.error.size() ? s.error[i] : 0;
            span(s.y[i] - e, f.y.logarithmic, y_low, y_high);
            span(s.y[i] + e, f.y.logarithmic, y_low, y_high);
        }
    }
    for (const Rule& r : f.rules) span(r.x, f.x.logarithmic, x_low, x_high);
    const bool empty = !(x_low <= x_high) || (!bars && !(y_low <= y_high));
    if (empty) x_low = y_low = 0, x_high = y_high = 1;
    Axis y_axis = f.y;
    const Scale x = make_scale(f.x, x_low, x_high, area.x, area.x + area.w, std::max(3, int(area.w / 90)), bars);
    const Scale y = make_scale(y_axis, y_low, y_high, area.y + area.h, area.y, std::max(3, int(area.h / 55)), from_zero);

    Canvas c;
    c.out = fmt::format(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {}\" width=\"{}\" height=\"{}\" "
        "font-family=\"system-ui,'DejaVu Sans',Helvetica,Arial,sans-serif\" role=\"img\" aria-label=\"{}\">\n<style>{}"
        "</style>\n",
        width, height, width, height, escape_xml(f.title), style(theme));
    c.rect({0, 0, double(width), double(height)}, "bg");
    c.text(16, 27, f.title, "start", 16, "text", "font-weight=\"600\"");
    if (!f.subtitle.empty()) c.text(16, 47, shortened(f.subtitle, size_t(width / 6.6)), "start", 12, "soft");

    double last = -1e9;
    for (double v : x.ticks) {
        const double at = x(v);
        c.line(at, area.y, at, area.y + area.h, "grid");
        const std::string label = format(v, f.x.format);
        const double half = text_width(label, 11.5) / 2;
        if (at - half < last + 6) continue;
        c.text(at, area.y + area.h + 18, label, "middle", 11.5, "soft");
        last = at + half;
    }
    if (bars) {
        const double slot = area.h / double(std::max<size_t>(1, f.y.names.size()));
        for (size_t i = 0; i < f.y.names.size(); i++)
            c.text(area.x - 8, area.y + slot * (double(i) + 0.5) + 4, shortened(f.y.names[i], 34), "end", 11.5);
    } else {
        for (double v : y.ticks) {
            c.line(area.x, y(v), area.x + area.w, y(v), "grid");
            c.text(area.x - 8, y(v) + 4, format(v, f.y.format), "end", 11.5, "soft");
        }
        c.text(0, 0, f.y.label, "middle", 12.5, "text",
               fmt::format("transform=\"translate(17 {:.1f}) rotate(-90)\"", area.y + area.h / 2));
    }
    c.line(area.x, area.y + area.h, area.x + area.w, area.y + area.h, "axis");
    c.line(area.x, area.y, area.x, area.y + area.h, "axis");
    c.text(area.x + area.w / 2, area.y + area.h + 40, f.x.label, "middle", 12.5);
    if (empty) c.text(area.x + area.w / 2, area.y + area.h / 2, "no data", "middle", 14, "soft");

    c.out +=
        fmt::format("<clipPath id=\"area\"><rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\"/></clipPath>\n",
                    area.x, area.y - 6, area.w + 6, area.h + 12);
    if (bars && !empty) draw_bars(c, f, x, area);
    for (size_t n = 0; n < f.series.size() && !bars && !empty; n++) {
        const Series& s = f.series[n];
        c.out += "<g clip-path=\"url(#area)\">\n";
        if (s.mark == Mark::histogram) {
            std::string outline;  // one shape: neighbours that overlapped or left a gap would show
            for (size_t i = 0; i + 1 < s.x.size() && i < s.y.size(); i++)
                outline += fmt::format("{}{:.1f} {:.1f}V{:.1f}H{:.1f}", i ? "L" : "M", x(s.x[i]), i ? y(s.y[i - 1]) : y.from,
                                       y(s.y[i]), x(s.x[i + 1]));
            c.out += fmt::format("<path d=\"{}V{:.1f}z\" class=\"f{}\" opacity=\"0.75\"/>\n", outline, y.from,
                                 colour_of(f, n) % colours);
        } else if (s.mark != Mark::points) {
            draw_path(c, s, colour_of(f, n), x, y);
        }
        for (size_t i = 0; i < std::min({s.error.size(), s.x.size(), s.y.size()}); i++) {
            if (!(s.error[i] > 0) || !x.shows(s.x[i]) || !y.shows(s.y[i])) continue;
            const double px = x(s.x[i]), a = y(y.shows(s.y[i] - s.error[i]) ? s.y[i] - s.error[i] : y.low),
                         b = y(s.y[i] + s.error[i]);
            const std::string stroke = fmt::format("s{}", colour_of(f, n) % colours);
            c.line(px, a, px, b, stroke);
            c.line(px - 3, a, px + 3, a, stroke);
            c.line(px - 3, b, px + 3, b, stroke);
        }
        if (s.mark == Mark::points || s.mark == Mark::line_and_points)
            for (size_t i = 0; i < std::min(s.x.size(), s.y.size()); i++)
                if (x.shows(s.x[i]) && y.shows(s.y[i])) c.marker(x(s.x[i]), y(s.y[i]), colour_of(f, n));
        c.out += "</g>\n";
    }
    size_t step = 0;
    for (const Rule& r : f.rules) {
        if (!x.shows(r.x) || r.x < x.low || r.x > x.high) continue;
        if (from_zero)
            c.line(x(r.x), area.y, x(r.x), area.y + area.h, "s1", "stroke-width=\"1.5\"");
        else
            c.line(x(r.x), area.y, x(r.x), area.y + area.h, "axis", "stroke-width=\"1\" stroke-dasharray=\"3 3\"");
        if (!r.label.empty()) c.text(x(r.x), area.y - 4 - double(step++ % 2) * 11, r.label, "middle", 10.5, "soft");
    }
    if (!bars)
        draw_labels(c, f, x, y, area, legend ? Box{width - right + 8, area.y - 8, right, 19.0 * double(named) + 8} : Box{},
                    width - 4);
    if (legend) {
        double at = area.y + 8;
        for (size_t n = 0; n < f.series.size(); n++) {
            const Series& s = f.series[n];
            if (s.name.empty()) continue;
            const double lx = width - right + (bars ? 60 : 0) + 14;
            if (s.mark == Mark::bars || s.mark == Mark::histogram)
                c.rect({lx, at - 5, 14, 10}, fmt::format("f{}", colour_of(f, n) % colours));
            else if (s.mark != Mark::points)
                c.line(lx, at, lx + 16, at, fmt::format("s{}", colour_of(f, n) % colours),
                       s.mark == Mark::front ? "stroke-width=\"2\" stroke-dasharray=\"6 4\"" : "stroke-width=\"2\"");
            if (s.mark == Mark::points || s.mark == Mark::line_and_points) c.marker(lx + 8, at, colour_of(f, n));
            c.text(lx + 22, at + 4, shortened(s.name, 32), "start", 11.5);
            at += 19;
        }
    }
    return c.out + "</svg>\n";
}

std::string html_report(std::string_view title, const std::vector<Section>& sections) {
    std::string out = fmt::format(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\n<meta name=\"viewport\" "
        "content=\"width=device-width,initial-scale=1\">\n<title>{}</title>\n<style>\n"
        ":root{{color-scheme:light dark}}body{{font:15px/1.5 system-ui,sans-serif;max-width:1060px;margin:2rem auto;padding:0 "
        "1rem;"
        "background:#fff;color:#1c2127}}h1{{font-size:1.6rem}}h2{{font-size:1.2rem;margin-top:2.2rem}}svg{{max-width:100%;height:"
        "auto;"
        "display:block;margin:1rem "
        "0}}table{{border-collapse:collapse;font-size:13px;display:block;overflow-x:auto}}td,th{{padding:3px 10px;"
        "text-align:right;border-bottom:1px solid #8884}}td:first-child,th:first-child{{text-align:left;white-space:nowrap}}"
        "@media(prefers-color-scheme:dark){{body{{background:#14181d;color:#e6e9ed}}}}\n</style></head><body>\n<h1>{}</h1>\n",
        escape_xml(title), escape_xml(title));
    int clip = 0;
    for (const Section& s : sections) {
        out += fmt::format("<h2>{}</h2>\n", escape_xml(s.heading));
        if (!s.text.empty()) out += fmt::format("<p>{}</p>\n", escape_xml(s.text));
        for (const Figure& f : s.figures) {
            const std::string id = fmt::format("area{}", clip++);  // ids are the page's
            out += replace_all(replace_all(svg(f, Theme::automatic), "id=\"area\"", "id=\"" + id + "\""), "url(#area)",
                               "url(#" + id + ")");
        }
        if (s.table.empty()) continue;
        out += "<table>\n";
        for (size_t r = 0; r < s.table.size(); r++) {
            out += "<tr>";
            for (const std::string& cell : s.table[r])
                out += fmt::format("<{0}>{1}</{0}>", r == 0 ? "th" : "td", escape_xml(cell));
            out += "</tr>\n";
        }
        out += "</table>\n";
    }
    return out + "</body></html>\n";
}

}  // namespace vkqat
