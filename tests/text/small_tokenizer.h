// A tokenizer.json small enough to see through, to be changed by a test.
#pragma once

#include <nlohmann/json.hpp>

#include "runtime/text/tokenizer.h"
#include "tests/support/scratch_folder.h"

namespace vkqat::test {

// a 0, b 1, c 2, ab 3, bc 4, abc 5; no normalizer, no pre-tokenizer, no byte alphabet.
inline nlohmann::json small_tokenizer() {
    return {{"version", "1.0"},
            {"added_tokens", nlohmann::json::array()},
            {"normalizer", nullptr},
            {"pre_tokenizer", nullptr},
            {"post_processor", nullptr},
            {"decoder", {{"type", "Fuse"}}},
            {"model",
             {{"type", "BPE"},
              {"vocab", {{"a", 0}, {"b", 1}, {"c", 2}, {"ab", 3}, {"bc", 4}, {"abc", 5}}},
              {"merges", {"b c", "a b", "a bc"}}}}};
}

inline Tokenizer load_json(const ScratchFolder& folder, const nlohmann::json& json) {
    return load_tokenizer(folder.write("tokenizer.json", json.dump()));
}

}  // namespace vkqat::test
