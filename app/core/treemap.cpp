#include "app/core/treemap.h"

#include <algorithm>
#include <cstddef>

namespace vkqat {
namespace {

// The worst ratio of sides in a strip of areas between `least` and `most` with `sum` together, along a side.
double worst(double least, double most, double sum, double side) {
    const double s = side * side, t = sum * sum;
    return std::max(s * most / t, t / (s * least));
}

}  // namespace

std::vector<TreemapCell> treemap(const std::vector<double>& figures, TreemapCell room) {
    std::vector<TreemapCell> cells(figures.size());
    std::vector<size_t> order;
    double total = 0;
    for (size_t i = 0; i < figures.size(); i++)
        if (figures[i] > 0) order.push_back(i), total += figures[i];
    if (order.empty() || room.width <= 0 || room.height <= 0) return cells;
    std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return figures[a] > figures[b]; });
    const double scale = double(room.width) * double(room.height) / total;
    double x = double(room.x), y = double(room.y), w = double(room.width), h = double(room.height);
    for (size_t begin = 0; begin < order.size();) {
        const double side = std::min(w, h);
        size_t end = begin;
        double sum = 0;
        while (end < order.size()) {
            const double first = figures[order[begin]] * scale, area = figures[order[end]] * scale;
            const double before = end == begin ? 1e300 : worst(figures[order[end - 1]] * scale, first, sum, side);
            if (worst(area, first, sum + area, side) > before) break;
            sum += area;
            end++;
        }
        const bool across = w >= h;  // the strip stands at the left, or lies at the top
        const double depth = std::min(sum / side, across ? w : h);
        double at = across ? y : x;
        for (size_t i = begin; i < end; i++) {
            const double length = figures[order[i]] * scale / depth;
            cells[order[i]] = across ? TreemapCell{float(x), float(at), float(depth), float(length)}
                                     : TreemapCell{float(at), float(y), float(length), float(depth)};
            at += length;
        }
        across ? (x += depth, w -= depth) : (y += depth, h -= depth);
        begin = end;
    }
    return cells;
}

}  // namespace vkqat
