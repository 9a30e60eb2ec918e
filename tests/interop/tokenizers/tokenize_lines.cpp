// Our side of check_tokenizers.py.
//   tokenize_lines encode TOKENIZER [special]   texts on stdin -> one line of ids each (no start token; `special`: parse them)
//   tokenize_lines decode TOKENIZER             the same texts -> decode(encode(text)), framed as the input is
//   tokenize_lines train FOLDER VOCAB_SIZE      trains on the texts, writes FOLDER/tokenizer.json and its configuration
// A text on stdin is its length (4 bytes, least significant first) and its bytes.
#include <cstdint>
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "runtime/support/error.h"
#include "runtime/text/bpe_trainer.h"
#include "runtime/text/tokenizer.h"

namespace {

bool read_text(std::string& text) {
    unsigned char length[4];
    if (!std::cin.read(reinterpret_cast<char*>(length), 4)) return false;
    text.resize(length[0] | size_t(length[1]) << 8 | size_t(length[2]) << 16 | size_t(length[3]) << 24);
    return bool(std::cin.read(text.data(), std::streamsize(text.size())));
}

void write_text(const std::string& text) {
    const auto n = uint32_t(text.size());
    const char length[4] = {char(n), char(n >> 8), char(n >> 16), char(n >> 24)};
    std::cout.write(length, 4).write(text.data(), std::streamsize(text.size()));
}

int run(const std::vector<std::string>& args) {
    if (args.size() < 2) throw vkqat::UsageError("usage: tokenize_lines encode|decode TOKENIZER | train FOLDER VOCAB_SIZE");
    std::string text;
    if (args[0] == "train") {
        std::vector<std::string> texts;
        while (read_text(text)) texts.push_back(text);
        vkqat::BpeTrainingOptions options;
        options.vocab_size = std::stoul(args.at(2));
        vkqat::write_tokenizer(args[1], vkqat::train_bpe(texts, options), options);
        return 0;
    }
    const vkqat::Tokenizer tokenizer = vkqat::load_tokenizer(args[1]);
    vkqat::EncodeOptions options;
    options.add_bos = false;
    options.parse_special = args.size() > 2 && args[2] == "special";
    while (read_text(text)) {
        const auto ids = tokenizer.encode(text, options);
        if (args[0] == "decode") {
            write_text(tokenizer.decode(ids, true));
            continue;
        }
        std::string line;
        for (auto id : ids) line += std::to_string(id) + ' ';
        std::cout << line << '\n';
    }
    return 0;
}

}  // namespace

int main(int argc, char** argv) {
    std::ios::sync_with_stdio(false);
    try {
        return run({argv + 1, argv + argc});
    } catch (const std::exception& e) {
        std::fprintf(stderr, "tokenize_lines: %s\n", e.what());
        return 1;
    }
}
