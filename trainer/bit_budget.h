// How many bits each part of a model gets, so that a budget of bytes is met with the least loss.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace vkqat {

// One way to store a part.
struct BitChoice {
    int bits = 0;
    int64_t block = 0;  // weights that share a scale; 0: a row
    uint64_t bytes = 0;
    double error = 0;  // squared error of the part's weights, weighed by their inputs: orders the ways of one part
    double loss = 0;   // how much worse the model becomes by it
};

// The index of the choice for each part: the sum of the losses is the smallest for which the sum of the bytes is at most `budget`
// (knapsack by dynamic programming; bytes count in units of a 65,536th of the span between the fewest and the most bytes, or
// exactly where their greatest common divisor is no smaller). Error if the fewest bytes do not fit, naming both numbers, or a
// part has no choice.
std::vector<size_t> choose_bits(const std::vector<std::vector<BitChoice>>& parts, uint64_t budget);

// What has been measured of one part: how much worse the model becomes at an error.
struct ErrorAndLoss {
    double error = 0, loss = 0;
};
// The loss at another error, between the points on straight lines; beyond the largest error on the last line, below the smallest
// that of the smallest. Points come in any order, and one at least; a loss below that of a smaller error counts as that.
double loss_at(std::vector<ErrorAndLoss> points, double error);

// What a search asks of the model. Choices are indices, one for each part.
struct BudgetModel {
    // The loss with all parts stored so.
    std::function<double(const std::vector<size_t>& chosen)> loss;
    // The changes of that loss when one part alone is stored in another way: for each part the choices that were tried.
    struct Change {
        size_t choice = 0;
        double change = 0;
    };
    std::function<std::vector<std::vector<Change>>(const std::vector<size_t>& chosen)> changes;
};

struct BudgetResult {
    std::vector<size_t> chosen;
    double loss = 0;          // measured, of all parts together
    int64_t uniform = -1;     // index of the best choice that is the same for all parts and fits; -1: none fits
    double uniform_loss = 0;  // measured
    int rounds = 0;           // of changes that made it better
};

// Parts whose choices are the same ones (bits and blocks) in the same order, with the losses of each alone. Starts from
// choose_bits() of those losses, or from what is equal for all parts where that turns out better; then up to `rounds` times
// measures what a part's next step up or down changes among all the others as they are, chooses anew within these steps, and
// keeps what the model says is better: all changes, or if they are too many at once those that change most. So it is never
// worse, on the text at hand, than the best uniform choice. `line`: news, may be empty.
BudgetResult search_bits(const std::vector<std::vector<BitChoice>>& parts, uint64_t budget, const BudgetModel& model, int rounds,
                         const std::function<void(const std::string&)>& line);

}  // namespace vkqat
