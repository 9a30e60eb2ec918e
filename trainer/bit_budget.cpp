#include "trainer/bit_budget.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "runtime/support/error.h"

namespace vkqat {
namespace {

using Parts = std::vector<std::vector<BitChoice>>;

constexpr uint64_t most_units = 65536;

uint64_t bytes_of(const Parts& parts, const std::vector<size_t>& chosen) {
    uint64_t bytes = 0;
    for (size_t p = 0; p < parts.size(); p++) bytes += parts[p][chosen[p]].bytes;
    return bytes;
}

// Single exchanges, the best first, while any still fits: what the rounding to units has left over.
void improve(const Parts& parts, uint64_t budget, std::vector<size_t>& chosen) {
    uint64_t bytes = bytes_of(parts, chosen);
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
}

// The choices of each part that lie within the steps that were measured, with what they change, and their indices in `parts`.
struct Steps {
    Parts near;
    std::vector<std::vector<size_t>> indices;
};
Steps steps(const Parts& parts, const std::vector<size_t>& chosen, const std::vector<std::vector<BudgetModel::Change>>& changes) {
    Steps result{Parts(parts.size()), std::vector<std::vector<size_t>>(parts.size())};
    for (size_t p = 0; p < parts.size(); p++) {
        const BitChoice& now = parts[p][chosen[p]];
        int lowest = now.bits, highest = now.bits;
        std::vector<ErrorAndLoss> points{{now.error, 0}};
        for (const auto& [choice, change] : changes.at(p)) {
            const BitChoice& other = parts[p].at(choice);
            points.push_back({other.error, change});
            lowest = std::min(lowest, other.bits), highest = std::max(highest, other.bits);
        }
        for (size_t i = 0; i < parts[p].size(); i++) {
            BitChoice choice = parts[p][i];
            if (choice.bits < lowest || choice.bits > highest) continue;
            choice.loss = loss_at(points, choice.error);
            result.near[p].push_back(choice);
            result.indices[p].push_back(i);
        }
    }
    return result;
}

}  // namespace

std::vector<size_t> choose_bits(const Parts& parts, uint64_t budget) {
    std::vector<uint64_t> least(parts.size());
    uint64_t fewest = 0, span = 0, common = 0;
    for (size_t p = 0; p < parts.size(); p++) {
        if (parts[p].empty()) fail("part {} of the model has no choice of bits", p);
        if (parts[p].size() > UINT16_MAX) fail("part {} of the model has {} choices", p, parts[p].size());
        auto less = [](const BitChoice& a, const BitChoice& b) { return a.bytes < b.bytes; };
        auto [low, high] = std::minmax_element(parts[p].begin(), parts[p].end(), less);
        least[p] = low->bytes;
        fewest += low->bytes;
        span += high->bytes - low->bytes;
        for (const BitChoice& c : parts[p]) common = std::gcd(common, c.bytes - least[p]);
    }
    if (fewest > budget)
        fail("the budget is too small: the fewest bits take {:.1f} MB of the {:.1f} MB that are left for them",
             double(fewest) / 1e6, double(budget) / 1e6);
    span = std::min(span, budget - fewest);
    const uint64_t unit = std::max({uint64_t(1), common, (span + most_units - 1) / most_units}), capacity = span / unit;
    const size_t columns = size_t(capacity) + 1;
    // best[c]: the least loss of the parts so far in at most c units.
    std::vector<double> best(columns, 0), next(columns);
    std::vector<uint16_t> picks(parts.size() * columns);
    for (size_t p = 0; p < parts.size(); p++) {
        std::fill(next.begin(), next.end(), INFINITY);
        uint16_t* pick = picks.data() + p * columns;
        for (size_t i = 0; i < parts[p].size(); i++) {
            const uint64_t units = (parts[p][i].bytes - least[p] + unit - 1) / unit;
            const double loss = parts[p][i].loss;
            for (size_t c = size_t(units); c < columns; c++)
                if (best[c - units] + loss < next[c]) next[c] = best[c - units] + loss, pick[c] = uint16_t(i);
        }
        std::swap(best, next);
    }
    std::vector<size_t> chosen(parts.size());
    size_t c = columns - 1;
    for (size_t p = parts.size(); p-- > 0;) {
        chosen[p] = picks[p * columns + c];
        c -= size_t((parts[p][chosen[p]].bytes - least[p] + unit - 1) / unit);
    }
    improve(parts, budget, chosen);
    return chosen;
}

double loss_at(std::vector<ErrorAndLoss> points, double error) {
    std::sort(points.begin(), points.end(), [](const ErrorAndLoss& a, const ErrorAndLoss& b) { return a.error < b.error; });
    for (size_t i = 1; i < points.size(); i++) points[i].loss = std::max(points[i].loss, points[i - 1].loss);
    if (points.size() == 1 || error <= points.front().error) return points.front().loss;
    size_t i = 1;
    while (i + 1 < points.size() && points[i].error < error) i++;
    const ErrorAndLoss &from = points[i - 1], &to = points[i];
    if (to.error <= from.error) return to.loss;
    return from.loss + (to.loss - from.loss) * (error - from.error) / (to.error - from.error);
}

BudgetResult search_bits(const Parts& parts, uint64_t budget, const BudgetModel& model, int rounds,
                         const std::function<void(const std::string&)>& line) {
    BudgetResult result;
    result.chosen = choose_bits(parts, budget);
    result.loss = model.loss(result.chosen);
    double least = INFINITY;
    for (size_t i = 0; i < parts[0].size(); i++) {
        const std::vector<size_t> uniform(parts.size(), i);
        double loss = 0;
        for (const auto& part : parts) loss += part.at(i).loss;
        if (bytes_of(parts, uniform) <= budget && loss < least) least = loss, result.uniform = int64_t(i);
    }
    if (line) line(fmt::format("chosen part by part: {:.5f}", result.loss));
    if (result.uniform >= 0) {
        const std::vector<size_t> uniform(parts.size(), size_t(result.uniform));
        const BitChoice& choice = parts[0][size_t(result.uniform)];
        result.uniform_loss = model.loss(uniform);
        if (line)
            line(fmt::format("{} bits for all parts, {}: {:.5f}", choice.bits,
                             choice.block ? fmt::format("blocks of {}", choice.block) : "rows as blocks", result.uniform_loss));
        if (result.uniform_loss <= result.loss) result.chosen = uniform, result.loss = result.uniform_loss;
    }
    for (int round = 0; round < rounds; round++) {
        auto [near, indices] = steps(parts, result.chosen, model.changes(result.chosen));
        // All changes at once may be too many, for each was measured alone: then only those that change most.
        constexpr int attempts = 3;
        bool better = false;
        for (int attempt = 0; attempt < attempts; attempt++) {
            std::vector<size_t> picked = choose_bits(near, budget), chosen(parts.size());
            std::vector<double> moves;
            for (size_t p = 0; p < parts.size(); p++) {
                chosen[p] = indices[p][picked[p]];
                if (chosen[p] != result.chosen[p]) moves.push_back(std::abs(near[p][picked[p]].loss));
            }
            if (moves.empty()) break;
            const double loss = model.loss(chosen);
            if (line) line(fmt::format("round {}, {} changes: {:.5f}", round + 1, moves.size(), loss));
            better = loss < result.loss;
            if (better) {
                result.chosen = chosen;
                result.loss = loss;
                result.rounds++;
                break;
            }
            std::nth_element(moves.begin(), moves.begin() + long(moves.size() / 2), moves.end());
            const double price = moves[moves.size() / 2];  // of any change
            for (size_t p = 0; p < parts.size(); p++)
                for (size_t i = 0; i < near[p].size(); i++)
                    if (indices[p][i] != result.chosen[p]) near[p][i].loss += price;
        }
        if (!better) break;
    }
    return result;
}

}  // namespace vkqat
