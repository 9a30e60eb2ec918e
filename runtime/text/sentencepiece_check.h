// A look into a SentencePiece model before the library gets it: the library trusts the tables inside. Private to this room.
#pragma once

#include <string>
#include <string_view>

namespace vkqat {

struct SentencePieceSettings {
    bool add_dummy_prefix = true;
    bool remove_extra_whitespaces = true;
    bool treat_whitespace_as_suffix = false;
    int model_type = 1;                          // 1 unigram, 2 BPE, 3 word, 4 character
    std::string unk_surface = " \xE2\x81\x87 ";  // what an unknown token is decoded to
};

// Reads the settings that decoding needs and checks what the library does not: that scores are finite, and that the
// normalizer's compiled trie (precompiled_charsmap) stays inside its own bytes. Error where something is wrong.
SentencePieceSettings check_sentencepiece(std::string_view model);

}  // namespace vkqat
