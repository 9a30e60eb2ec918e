// Areas in proportion to figures, as close to squares as they come: "squarified treemaps" (Bruls, Huizing, van Wijk, 2000).
#pragma once

#include <vector>

namespace vkqat {

struct TreemapCell {
    float x = 0, y = 0, width = 0, height = 0;
};

// A cell for each figure, in their order; figures that are not positive have none (0 x 0). They fill the rectangle.
std::vector<TreemapCell> treemap(const std::vector<double>& figures, TreemapCell room);

}  // namespace vkqat
