#include "trainer/bit_budget.h"

#include <algorithm>
#include <numeric>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

// Choices from the fewest bytes up, each the best one per byte from the one before it.
std::vector<size_t> hull(const std::vector<BitChoice>& choices) {
    std::vector<size_t> order(choices.size());
    std::iota(order.begin(), order.end(), size_t(0));
    std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
        return choices[a].bytes != choices[b].bytes ? choices[a].bytes < choices[b].bytes : choices[a].loss < choices[b].loss;
    });
    std::vector<size_t> result{order[0]};
    for (size_t at = 0; at + 1 < order.size();) {
        const BitChoice& from = choices[order[at]];
        size_t best = at;
        double best_gain = 0;
        for (size_t next = at + 1; next < order.size(); next++) {
            const BitChoice& to = choices[order[next]];
            const double gain = (from.loss - to.loss) / std::max<double>(1, double(to.bytes - from.bytes));
            if (gain > best_gain || (gain == best_gain && gain > 0)) best = next, best_gain = gain;
        }
        if (best == at) break;
        result.push_back(order[best]);
        at = best;
    }
    return result;
}

}  // namespace

std::vector<size_t> choose_bits(const std::vector<std::vector<BitChoice>>& parts, uint64_t budget) {
    struct Step {
        size_t part, index;  // along the part's hull
        double gain;
    };
    std::vector<size_t> chosen(parts.size());
    std::vector<std::vector<size_t>> hulls;
    std::vector<Step> steps;
    uint64_t bytes = 0;
    for (size_t p = 0; p < parts.size(); p++) {
        if (parts[p].empty()) fail("part {} of the model has no choice of bits", p);
        hulls.push_back(hull(parts[p]));
        chosen[p] = hulls[p][0];
        bytes += parts[p][chosen[p]].bytes;
        for (size_t i = 1; i < hulls[p].size(); i++) {
            const BitChoice &from = parts[p][hulls[p][i - 1]], &to = parts[p][hulls[p][i]];
            steps.push_back({p, i, (from.loss - to.loss) / std::max<double>(1, double(to.bytes - from.bytes))});
        }
    }
    if (bytes > budget)
        fail("the budget is too small: the fewest bits take {:.1f} MB of the {:.1f} MB that are left for them",
             double(bytes) / 1e6, double(budget) / 1e6);
    std::stable_sort(steps.begin(), steps.end(), [](const Step& a, const Step& b) { return a.gain > b.gain; });
    for (const Step& s : steps) {
        const size_t from = chosen[s.part], to = hulls[s.part][s.index];
        if (from != hulls[s.part][s.index - 1]) continue;  // a step before it did not fit
        const uint64_t after = bytes - parts[s.part][from].bytes + parts[s.part][to].bytes;
        if (after > budget) continue;
        chosen[s.part] = to;
        bytes = after;
    }
    for (bool improved = true; improved;) {
        improved = false;
        size_t best_part = 0, best = 0;
        double best_gain = 0;
        for (size_t p = 0; p < parts.size(); p++)
            for (size_t c = 0; c < parts[p].size(); c++) {
                const double gain = parts[p][chosen[p]].loss - parts[p][c].loss;
                if (gain > best_gain && bytes - parts[p][chosen[p]].bytes + parts[p][c].bytes <= budget)
                    best_part = p, best = c, best_gain = gain, improved = true;
            }
        if (!improved) break;
        bytes = bytes - parts[best_part][chosen[best_part]].bytes + parts[best_part][best].bytes;
        chosen[best_part] = best;
    }
    return chosen;
}

}  // namespace vkqat
