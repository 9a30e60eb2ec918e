#include "trainer/sample_corpus.h"

#include <unordered_set>

#include "runtime/support/error.h"
#include "runtime/support/files.h"
#include "trainer/sample_grammar.h"

namespace vkqat {
namespace fs = std::filesystem;

void write_sample_corpus(const fs::path& folder, uint64_t seed, uint64_t bytes) {
    constexpr uint64_t most = uint64_t(1) << 30;
    if (bytes < 1000 || bytes > most) fail("a sample corpus of {} bytes: expected 1000 to {}", bytes, most);
    std::error_code error;
    fs::create_directories(folder, error);
    if (error) fail("{}: cannot create the folder: {}", folder.string(), error.message());

    std::mt19937_64 random(seed);
    AtomicFile train(folder / "train.txt"), valid(folder / "valid.txt");
    std::unordered_set<std::string> seen;
    uint64_t written = 0, valid_written = 0;
    while (written < bytes) {
        // Questions are short: half of the documents, about a seventh of the text.
        std::string document = pick_index(random, 2) == 0 ? sample_questions(random) : sample_story(random);
        if (!seen.insert(document).second) continue;
        document += "\n\n";
        bool to_valid = valid_written * 20 < written;
        (to_valid ? valid : train).write(document);
        written += document.size();
        if (to_valid) valid_written += document.size();
    }
    train.commit();
    valid.commit();
}

}  // namespace vkqat
