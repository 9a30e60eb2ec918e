// Ids of words that were tokenized lately, shared by threads. Private to this room.
#pragma once

#include <array>
#include <cstdint>
#include <mutex>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace vkqat {

class WordCache {
public:
    // Appends the ids of `word`, from the cache or by `work(word, ids)`. Long words are not kept.
    template <class Work>
    void get(std::string_view word, std::vector<int32_t>& ids, Work&& work) {
        if (word.size() > max_word_bytes) return work(word, ids);
        const size_t hash = std::hash<std::string_view>()(word);
        Shard& shard = shards_[(hash >> 7) % shards_.size()];
        {
            std::lock_guard lock(shard.mutex);
            if (auto found = shard.words.find(word); found != shard.words.end()) {
                ids.insert(ids.end(), found->second.begin(), found->second.end());
                return;
            }
        }
        const size_t before = ids.size();
        work(word, ids);
        std::lock_guard lock(shard.mutex);
        if (shard.words.size() >= max_words) shard.words.clear();
        shard.words.emplace(word, std::vector<int32_t>(ids.begin() + long(before), ids.end()));
    }

private:
    static constexpr size_t max_word_bytes = 48, max_words = 8192;
    struct Hash {
        using is_transparent = void;
        size_t operator()(std::string_view s) const { return std::hash<std::string_view>()(s); }
    };
    struct Shard {
        std::mutex mutex;
        std::unordered_map<std::string, std::vector<int32_t>, Hash, std::equal_to<>> words;
    };
    std::array<Shard, 16> shards_;
};

}  // namespace vkqat
