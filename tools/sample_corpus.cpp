// vkqat sample-corpus: the project's own text to try things on.
#include "trainer/sample_corpus.h"

#include "runtime/support/files.h"
#include "tools/command.h"
#include "tools/console.h"

namespace vkqat {

void add_sample_corpus_command(CLI::App& app) {
    struct Options {
        std::string folder;
        uint64_t seed = 1, bytes = 1'000'000;
    };
    CLI::App* command = app.add_subcommand("sample-corpus", "write a small corpus of simple stories and questions");
    auto o = std::make_shared<Options>();
    command->add_option("OUT_DIR", o->folder, "new folder for train.txt and valid.txt")->required()->type_name("OUT_DIR");
    command->add_option("--seed", o->seed, "same seed, same text (1)")->type_name("N");
    command->add_option("--bytes", o->bytes, "size of both together (1000000)")
        ->check(between(1000, int64_t(1) << 40))
        ->type_name("N");
    command->footer("Example:\n  vkqat sample-corpus corpus --seed 1");
    command->callback([=] {
        std::filesystem::path folder = o->folder;
        write_directory(folder, [&](const std::filesystem::path& to) { write_sample_corpus(to, o->seed, o->bytes); });
        for (const char* name : {"train.txt", "valid.txt"}) {
            std::filesystem::path file = folder / name;
            std::printf("%s: %s\n", file.c_str(), human_bytes(double(std::filesystem::file_size(file))).c_str());
        }
    });
}

}  // namespace vkqat
