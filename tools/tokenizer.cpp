// vkqat tokenizer: text to ids and back, and training a small tokenizer.
#include <nlohmann/json.hpp>

#include "runtime/formats/json_text.h"
#include "runtime/support/files.h"
#include "runtime/text/bpe_trainer.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/utf8.h"
#include "tools/console.h"
#include "tools/model.h"
#include "trainer/corpus_reader.h"

namespace vkqat {
namespace {

// Turns as Llama 3 has them.
constexpr const char* chat_tokens[] = {"<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"};

Tokenizer open_tokenizer(const std::string& path) {
    if (!has_file(path)) fail("{}: there is no such file or directory", path);
    return load_tokenizer(path);
}

std::string read_stdin() {
    constexpr size_t limit = size_t(1) << 30;
    std::string text;
    char buffer[65536];
    while (size_t n = std::fread(buffer, 1, sizeof buffer, stdin)) {
        text.append(buffer, n);
        if (text.size() >= limit) fail("the text on stdin has {} bytes or more", limit);
    }
    return text;
}

void add_encode(CLI::App& tokenizer_command) {
    struct Options {
        std::string tokenizer, file;
        std::optional<std::string> text;
        bool no_start = false, special = false, pieces = false, as_json = false;
    };
    CLI::App* command = tokenizer_command.add_subcommand("encode", "text to ids");
    auto o = std::make_shared<Options>();
    command->add_option("TOKENIZER", o->tokenizer, "model directory, or file of a tokenizer")->required()->type_name("TOKENIZER");
    command->add_option("TEXT", o->text, "the text; without it, stdin")->type_name("TEXT");
    command->add_option("--file", o->file, "read the text from a file")->type_name("FILE");
    command->add_flag("--no-start", o->no_start, "no start token in front");
    command->add_flag("--special", o->special, "special tokens written in the text (<|eot_id|>) become their ids");
    command->add_flag("--pieces", o->pieces, "one line for each token: id and text");
    command->add_flag("--json", o->as_json, "print JSON");
    command->footer(
        "Examples:\n  vkqat tokenizer encode MODEL \"Once upon a time\"\n"
        "  vkqat tokenizer encode MODEL --file story.txt --pieces");
    command->callback([=] {
        if (o->text && !o->file.empty()) throw UsageError("the text and --file exclude each other");
        Tokenizer tokenizer = open_tokenizer(o->tokenizer);
        std::string text = o->text ? *o->text : o->file.empty() ? read_stdin() : read_text_file(o->file);
        EncodeOptions options{.parse_special = o->special};
        if (o->no_start) options.add_bos = false;
        std::vector<TokenId> ids = tokenizer.encode(text, options);
        if (o->as_json) {
            nlohmann::ordered_json result{{"ids", ids}, {"pieces", nlohmann::ordered_json::array()}};
            for (TokenId id : ids) result["pieces"].push_back(utf8_lossy(tokenizer.decode_piece(id, true)));
            std::printf("%s\n", result.dump().c_str());
        } else if (o->pieces) {
            Table table({">id", "token"});
            for (TokenId id : ids) table.add({std::to_string(id), quoted_piece(tokenizer, id)});
            table.print();
        } else {
            std::printf("%s\n", fmt::format("{}", fmt::join(ids, ",")).c_str());
        }
    });
}

void add_decode(CLI::App& tokenizer_command) {
    struct Options {
        std::string tokenizer, ids;
        bool special = false;
    };
    CLI::App* command = tokenizer_command.add_subcommand("decode", "ids to text");
    auto o = std::make_shared<Options>();
    command->add_option("TOKENIZER", o->tokenizer, "model directory, or file of a tokenizer")->required()->type_name("TOKENIZER");
    command->add_option("LIST", o->ids, "ids such as 1,2,3; without them, stdin")->type_name("LIST");
    command->add_flag("--special", o->special, "write special tokens out");
    command->footer("Example:\n  vkqat tokenizer decode MODEL 1,403,407,261");
    command->callback([=] {
        Tokenizer tokenizer = open_tokenizer(o->tokenizer);
        std::vector<int32_t> ids = parse_ids(o->ids.empty() ? read_stdin() : o->ids);
        std::string text = tokenizer.decode(ids, o->special);
        print((is_terminal(stdout) ? displayable(utf8_lossy(text)) : text) + "\n");
    });
}

void add_info(CLI::App& tokenizer_command) {
    struct Options {
        std::string tokenizer;
        bool as_json = false;
    };
    CLI::App* command = tokenizer_command.add_subcommand("info", "kind, size and special tokens");
    auto o = std::make_shared<Options>();
    command->add_option("TOKENIZER", o->tokenizer, "model directory, or file of a tokenizer")->required()->type_name("TOKENIZER");
    command->add_flag("--json", o->as_json, "print JSON");
    command->footer("Example:\n  vkqat tokenizer info MODEL");
    command->callback([=] {
        Tokenizer tokenizer = open_tokenizer(o->tokenizer);
        const std::pair<const char*, std::optional<TokenId>> roles[] = {
            {"start", tokenizer.bos()}, {"end", tokenizer.eos()}, {"padding", tokenizer.pad()}};
        std::vector<TokenId> special;
        for (size_t id = 0; id < tokenizer.vocab_size(); id++)
            if (tokenizer.is_special(TokenId(id))) special.push_back(TokenId(id));
        if (o->as_json) {
            nlohmann::ordered_json result{{"kind", tokenizer.kind()}, {"vocab_size", tokenizer.vocab_size()}};
            for (auto& [role, id] : roles) result[role] = id ? nlohmann::ordered_json(*id) : nlohmann::ordered_json();
            for (TokenId id : special) result["special"][std::to_string(id)] = utf8_lossy(tokenizer.token(id));
            std::printf("%s\n", result.dump(2).c_str());
            return;
        }
        std::printf("kind        %s\ntokens      %s\n", tokenizer.kind().c_str(),
                    with_commas(int64_t(tokenizer.vocab_size())).c_str());
        for (auto& [role, id] : roles)
            std::printf("%-12s%s\n", role, id ? fmt::format("{} {}", *id, printable(tokenizer.token(*id), 60)).c_str() : "none");
        std::printf("special     %zu", special.size());
        for (size_t i = 0; i < special.size() && i < 12; i++)
            std::printf("%s%s", i ? ", " : ": ", printable(tokenizer.token(special[i]), 60).c_str());
        std::printf("%s\n", special.size() > 12 ? ", ..." : "");
    });
}

struct TrainOptions {
    std::vector<std::string> files;
    std::string out, separator;
    size_t vocab_size = 4096;
    uint64_t max_bytes = uint64_t(512) << 20;
    bool chat_template = false;
};

void train(const TrainOptions& o) {
    if (has_file(o.out)) fail("{}: exists already; choose another name for the tokenizer", o.out);
    std::vector<std::filesystem::path> files = corpus_files(o.files);
    DocumentReader reader(files, {.separator = o.separator});
    std::vector<std::string> texts;
    uint64_t bytes = 0;
    bool all = true;
    for (Document document; reader.next(document);) {
        if (bytes + document.text.size() > o.max_bytes) {
            all = false;
            break;
        }
        bytes += document.text.size();
        texts.push_back(std::move(document.text));
    }
    if (texts.empty()) fail("{}: there is no text to train on", fmt::join(o.files, ", "));
    BpeTrainingOptions options{.vocab_size = o.vocab_size};
    if (o.chat_template) {
        options.special_tokens.insert(options.special_tokens.end(), std::begin(chat_tokens), std::end(chat_tokens));
        options.chat_template = llama3_chat_template;
    }
    Stopwatch time;
    BpeTraining training = train_bpe(texts, options);
    write_directory(o.out, [&](const std::filesystem::path& to) { write_tokenizer(to, training, options); });
    std::printf("%s: %s tokens from %s documents, %s%s, in %s\n", o.out.c_str(),
                with_commas(int64_t(training.tokens.size())).c_str(), with_commas(int64_t(texts.size())).c_str(),
                human_bytes(double(bytes)).c_str(), all ? "" : " (the rest of the text is beyond --max-bytes)",
                human_duration(time.seconds()).c_str());
    if (training.tokens.size() < o.vocab_size)
        std::printf("These are fewer than --vocab-size %zu: the text has no more pairs that occur twice.\n", o.vocab_size);
}

void add_train(CLI::App& tokenizer_command) {
    CLI::App* command = tokenizer_command.add_subcommand("train", "train a byte-level BPE tokenizer from text");
    auto o = std::make_shared<TrainOptions>();
    command
        ->add_option("FILE", o->files, "text (.txt) or JSON lines (.jsonl), perhaps .gz or .zst; directories and globs of them")
        ->required()
        ->type_name("FILE...");
    command->add_option("--out", o->out, "new directory for tokenizer.json and tokenizer_config.json")
        ->required()
        ->type_name("DIR");
    command->add_option("--vocab-size", o->vocab_size, "number of tokens, the 256 bytes and special ones included (4096)")
        ->check(between(256, 1'000'000))
        ->type_name("N");
    command->add_option("--separator", o->separator, "between documents of plain text (a blank line)")->type_name("TEXT");
    command->add_option("--max-bytes", o->max_bytes, "read this much text at most (536870912)")->type_name("N");
    command->add_flag("--chat-template", o->chat_template, "with Llama 3's tokens and template for conversations");
    command->footer("Example:\n  vkqat tokenizer train corpus/train.txt --vocab-size 1024 --out tokenizer");
    command->callback([=] { train(*o); });
}

}  // namespace

void add_tokenizer_command(CLI::App& app) {
    CLI::App* command = app.add_subcommand("tokenizer", "encode and decode text, train a tokenizer");
    command->require_subcommand(1);
    add_encode(*command);
    add_decode(*command);
    add_info(*command);
    add_train(*command);
    command->footer(
        "Examples:\n  vkqat tokenizer train corpus/train.txt --vocab-size 1024 --out tokenizer\n"
        "  vkqat tokenizer encode tokenizer \"Once upon a time\"");
}

}  // namespace vkqat
