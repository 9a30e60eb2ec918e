#include "trainer/touched_rows.h"

#include <algorithm>
#include <cstring>

namespace vkqat {

void TouchedRows::gather(Communicator& ranks, std::span<const int32_t> ids) {
    if (matrix_.rows == 0) return;
    const std::vector<std::byte> all = ranks.all_gather(std::as_bytes(ids));
    rows_.clear();
    for (int r = 0; r < ranks_; r++)
        for (size_t i = 0; i < ids.size(); i++) {
            int32_t id;
            std::memcpy(&id, all.data() + (size_t(r) * ids.size() + i) * sizeof id, sizeof id);
            if (id >= 0 && uint64_t(id) < matrix_.rows) rows_.emplace_back(uint64_t(id), uint64_t(1) << r);
        }
    std::sort(rows_.begin(), rows_.end());
    size_t count = 0;
    for (const auto& [row, rank] : rows_) {
        if (count > 0 && rows_[count - 1].first == row)
            rows_[count - 1].second |= rank;
        else
            rows_[count++] = {row, rank};
    }
    rows_.resize(count);
}

std::vector<TouchedRows::Piece> TouchedRows::pieces(const Stretch& of) const {
    std::vector<Piece> pieces;
    const uint64_t everyone = ranks_ == most_ranks ? ~uint64_t(0) : (uint64_t(1) << ranks_) - 1;
    auto add = [&](uint64_t first, uint64_t last, uint64_t ranks) {
        first = std::max(first, of.first);
        last = std::min(last, of.first + of.count);
        if (first >= last) return;
        if (!pieces.empty() && pieces.back().ranks == ranks && pieces.back().stretch.first + pieces.back().stretch.count == first)
            pieces.back().stretch.count += last - first;
        else
            pieces.push_back({{of.block, first, last - first}, ranks});
    };
    if (of.block != matrix_.block || matrix_.rows == 0) {
        add(of.first, of.first + of.count, everyone);
        return pieces;
    }
    add(0, matrix_.first, everyone);
    const uint64_t skipped = of.first > matrix_.first ? (of.first - matrix_.first) / matrix_.cols : 0;  // rows before the stretch
    for (auto i = std::lower_bound(rows_.begin(), rows_.end(), std::pair(skipped, uint64_t(0))); i != rows_.end(); ++i) {
        const uint64_t begin = matrix_.first + i->first * matrix_.cols;
        if (begin >= of.first + of.count) break;
        add(begin, begin + matrix_.cols, i->second);
    }
    add(matrix_.first + matrix_.rows * matrix_.cols, of.first + of.count, everyone);
    return pieces;
}

}  // namespace vkqat
