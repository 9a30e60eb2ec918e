#include "runtime/text/bpe.h"

#include <bit>
#include <queue>

#include "runtime/support/error.h"
#include "runtime/text/utf8.h"

namespace vkqat {
namespace {

constexpr uint64_t no_pair = ~uint64_t(0);
uint64_t pair_key(TokenId left, TokenId right) { return uint64_t(uint32_t(left)) << 32 | uint32_t(right); }
size_t pair_hash(uint64_t key) { return size_t((key * 0x9E3779B97F4A7C15ull) >> 20); }

struct Symbol {
    TokenId id;  // -1: merged into the one before
    int32_t previous, next;
};

struct Candidate {
    int32_t rank, position;
    TokenId result;
    // The queue's top is the lowest rank, then the leftmost.
    bool operator<(const Candidate& other) const { return rank != other.rank ? rank > other.rank : position > other.position; }
};

}  // namespace

BpeModel::BpeModel(const Vocabulary& vocabulary, std::span<const BpeMerge> merges, const BpeOptions& options)
    : vocabulary_(vocabulary.begin(), vocabulary.end()), ascii_(128, -1), options_(options) {
    for (const auto& [text, id] : vocabulary_)
        if (text.size() == 1 && static_cast<unsigned char>(text[0]) < 128) ascii_[size_t(text[0])] = id;
    if (options.byte_fallback) {
        for (unsigned b = 0; b < 256; ++b) {
            auto found = vocabulary_.find(fmt::format("<0x{:02X}>", b));
            bytes_.push_back(found == vocabulary_.end() ? -1 : found->second);
        }
    }
    slots_.resize(std::bit_ceil(merges.size() * 2 + 2), Slot{no_pair, 0, 0});
    for (const BpeMerge& merge : merges) {
        const uint64_t key = pair_key(merge.left, merge.right);
        size_t i = pair_hash(key) & (slots_.size() - 1);
        while (slots_[i].pair != no_pair && slots_[i].pair != key) i = (i + 1) & (slots_.size() - 1);
        slots_[i] = {key, merge.rank, merge.result};  // of the same merge twice, the later one counts, as in the reference
    }
}

const BpeModel::Slot* BpeModel::find_merge(TokenId left, TokenId right) const {
    const uint64_t key = pair_key(left, right);
    for (size_t i = pair_hash(key) & (slots_.size() - 1);; i = (i + 1) & (slots_.size() - 1)) {
        if (slots_[i].pair == key) return &slots_[i];
        if (slots_[i].pair == no_pair) return nullptr;
    }
}

void BpeModel::encode(std::string_view word, std::vector<TokenId>& ids) const {
    if (word.size() >= size_t(1) << 30) fail("a word of {} bytes is too long for a tokenizer", word.size());
    if (options_.ignore_merges) {
        auto found = vocabulary_.find(word);
        if (found != vocabulary_.end()) return ids.push_back(found->second);
    }

    std::vector<Symbol> symbols;
    symbols.reserve(word.size());
    auto add = [&](TokenId id) {
        const int32_t n = int32_t(symbols.size());
        symbols.push_back({id, n - 1, n + 1});
    };
    bool unknown_waits = false;
    for (size_t i = 0; i < word.size();) {
        const unsigned length = utf8_at(word, i).length;
        const std::string_view character = word.substr(i, length);
        i += length;
        TokenId id = -1;
        if (length == 1) {
            id = ascii_[static_cast<unsigned char>(character[0]) & 127];
        } else if (auto found = vocabulary_.find(character); found != vocabulary_.end()) {
            id = found->second;
        }
        if (id >= 0) {
            if (unknown_waits) add(*options_.unknown);
            unknown_waits = false;
            add(id);
            continue;
        }
        bool as_bytes = !bytes_.empty();
        for (char b : character) as_bytes = as_bytes && bytes_[static_cast<unsigned char>(b)] >= 0;
        if (as_bytes) {
            for (char b : character) add(bytes_[static_cast<unsigned char>(b)]);
        } else if (options_.unknown) {
            if (unknown_waits && !options_.fuse_unknown) add(*options_.unknown);
            unknown_waits = true;
        }
    }
    if (unknown_waits) add(*options_.unknown);
    if (symbols.empty()) return;
    symbols.back().next = -1;

    std::vector<Candidate> first;
    first.reserve(symbols.size());
    for (size_t i = 0; i + 1 < symbols.size(); ++i)
        if (const Slot* m = find_merge(symbols[i].id, symbols[i + 1].id)) first.push_back({m->rank, int32_t(i), m->result});
    std::priority_queue<Candidate> queue({}, std::move(first));
    while (!queue.empty()) {
        const Candidate top = queue.top();
        queue.pop();
        Symbol& left = symbols[size_t(top.position)];
        if (left.id < 0 || left.next < 0) continue;
        Symbol& right = symbols[size_t(left.next)];
        const Slot* merge = find_merge(left.id, right.id);
        if (!merge || merge->result != top.result) continue;  // one of the two has changed since
        left.id = top.result;
        left.next = right.next;
        right.id = -1;
        if (left.next >= 0) {
            Symbol& after = symbols[size_t(left.next)];
            after.previous = top.position;
            if (const Slot* m = find_merge(left.id, after.id)) queue.push({m->rank, top.position, m->result});
        }
        if (left.previous >= 0)
            if (const Slot* m = find_merge(symbols[size_t(left.previous)].id, left.id))
                queue.push({m->rank, left.previous, m->result});
    }
    for (int32_t i = 0; i >= 0; i = symbols[size_t(i)].next) ids.push_back(symbols[size_t(i)].id);
}

}  // namespace vkqat
