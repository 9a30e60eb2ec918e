#include "runtime/text/chat_template.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <chrono>

#include "runtime/text/isolated.h"
#include "tests/text/small_tokenizer.h"

namespace vkqat {
namespace {

using test::error_of;
using test::ScratchFolder;

const std::vector<ChatMessage> conversation = {
    {"system", "Be kind."}, {"user", " Hi \n"}, {"assistant", "Hello"}, {"user", "Bye"}};

std::string render(const std::string& source, bool generation = true) {
    return render_chat({source, "<s>", "</s>"}, conversation, generation);
}

TEST(ChatTemplate, Llama3IsTheFormatOfItsModelCard) {
    const ChatTemplate llama3{"", "<|begin_of_text|>", ""};
    EXPECT_EQ(render_chat(llama3, std::span(conversation).first(2), true),
              "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nBe kind.<|eot_id|>"
              "<|start_header_id|>user<|end_header_id|>\n\nHi<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n");
}

TEST(ChatTemplate, TheJinjaOfLlama3GivesTheSame) {
    // The published template of Llama 3 Instruct.
    const std::string jinja =
        "{% set loop_messages = messages %}{% for message in loop_messages %}{% set content = '<|start_header_id|>' + "
        "message['role'] + '<|end_header_id|>\n\n'+ message['content'] | trim + '<|eot_id|>' %}{% if loop.index0 == 0 %}{% set "
        "content = bos_token + content %}{% endif %}{{ content }}{% endfor %}{% if add_generation_prompt %}{{ "
        "'<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}";
    for (bool generation : {false, true})
        EXPECT_EQ(render_chat({jinja, "<|begin_of_text|>", "<|end_of_text|>"}, conversation, generation),
                  render_chat({"", "<|begin_of_text|>", "<|end_of_text|>"}, conversation, generation));
}

TEST(ChatTemplate, RendersBlocksTrimmedAsTransformersDoes) {
    const std::string source =
        "{{ bos_token }}\n{%- for m in messages %}\n    {%- if m.role == 'user' %}\n[INST] {{ m.content.strip() }} [/INST]\n"
        "    {%- elif m.role == 'assistant' %}\n {{ m['content'] }}{{ eos_token }}\n    {%- endif %}\n{%- endfor %}\n"
        "{% if add_generation_prompt %}\n>\n{% endif %}\n";
    // As Jinja2 3.1 with trim_blocks and lstrip_blocks renders it.
    EXPECT_EQ(render(source), "<s>[INST] Hi [/INST] Hello</s>[INST] Bye [/INST]>\n");
}

TEST(ChatTemplate, ReadsAStringAListAFileOrNothing) {
    ScratchFolder folder;
    const Tokenizer t = test::load_json(folder, test::small_tokenizer());
    EXPECT_EQ(load_chat_template(folder.path(), t).source, "");
    folder.write("tokenizer_config.json", R"({"chat_template": "one"})");
    EXPECT_EQ(load_chat_template(folder.path(), t).source, "one");
    folder.write("tokenizer_config.json",
                 R"({"chat_template": [{"name": "tool", "template": "t"}, {"name": "default", "template": "two"}]})");
    EXPECT_EQ(load_chat_template(folder.path(), t).source, "two");
    folder.write("tokenizer_config.json",
                 R"({"chat_template": [{"name": "tool", "template": "t"}, {"name": "rag", "template": "two"}]})");
    EXPECT_CONTAINS(error_of([&] { load_chat_template(folder.path(), t); }), "default");
    folder.write("tokenizer_config.json", R"({"chat_template": 3})");
    EXPECT_CONTAINS(error_of([&] { load_chat_template(folder.path(), t); }), "tokenizer_config.json");
    folder.write("chat_template.jinja", "three");
    EXPECT_EQ(load_chat_template(folder.path(), t).source, "three");
    folder.write("chat_template.jinja", "{% for x in %}");
    EXPECT_CONTAINS(error_of([&] { load_chat_template(folder.path(), t); }), "chat_template.jinja");
}

TEST(ChatTemplate, BadTemplatesAreErrorsOfOneLine) {
    for (const char* source : {"{% if x %}", "{{ 1 + }}", "{% endfor %}", "{{ raise_exception('no system role') }}",
                               "{{ 'a' + 1 // 0 }}", "{{ messages[0].content.nothing() }}"}) {
        const std::string error = error_of([&] { render(source); });
        EXPECT_CONTAINS(error, "chat template: ");
        EXPECT_EQ(error.find('\n'), std::string::npos) << error;
    }
    EXPECT_CONTAINS(error_of([] { render("{{ raise_exception('no system role') }}"); }), "no system role");
}

TEST(ChatTemplate, HostileTemplatesAreStopped) {
    const auto before = std::chrono::steady_clock::now();
    std::string nested;
    for (int i = 0; i < 1000; ++i) nested += '(';
    EXPECT_CONTAINS(error_of([&] { render("{{ " + nested + " }}"); }), "chat template: ");
    EXPECT_CONTAINS(error_of([] { render("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}"); }), "crashed");
    EXPECT_CONTAINS(error_of([] {
                        render(
                            "{% set x = range(1000) %}{% for a in x %}{% for b in x %}{% for c in x %}{% for d in x %}"
                            "{% endfor %}{% endfor %}{% endfor %}{% endfor %}");
                    }),
                    "seconds");
    EXPECT_CONTAINS(error_of([] { render(std::string(1 << 20, 'x')); }), "too many");
    EXPECT_LT(std::chrono::steady_clock::now() - before, std::chrono::seconds(60));
}

TEST(Isolated, ReturnsResultsAndErrorsAndStopsTheRest) {
    EXPECT_EQ(run_isolated("work", [] { return std::string(1'000'000, 'x'); }), std::string(1'000'000, 'x'));
    EXPECT_EQ(run_isolated("work", [] { return std::string(); }), "");
    EXPECT_EQ(error_of([] { run_isolated("work", []() -> std::string { throw std::runtime_error("no"); }); }), "work: no");
    EXPECT_CONTAINS(error_of([] { run_isolated("work", []() -> std::string { _exit(3); }); }), "crashed");
    EXPECT_CONTAINS(error_of([] { run_isolated("work", [] { return std::string(100, 'x'); }, {.result_bytes = 50}); }),
                    "50 bytes");
    EXPECT_CONTAINS(error_of([] {
                        run_isolated("work",
                                     []() -> std::string {
                                         for (;;) ::usleep(10000);
                                     },
                                     {.seconds = 1});
                    }),
                    "1 seconds");
}

#if !defined(__SANITIZE_ADDRESS__)
TEST(Isolated, BoundsMemory) {
    auto work = [] {
        std::string text = "x";
        while (text.size() < size_t(1) << 32) text += text;
        return std::to_string(text.size());
    };
    EXPECT_CONTAINS(error_of([&] { run_isolated("work", work, {.memory_bytes = size_t(64) << 20}); }), "too much memory");
}
#endif

}  // namespace
}  // namespace vkqat
