// A way through the whole program: a model is trained from the window, watched, stopped, talked to beside the one that it came
// from. With VKQAT_SCREENSHOTS=FOLDER every station leaves a picture.
#include <sys/wait.h>

#include "tests/app/driven.h"

namespace vkqat {
namespace {

using DrivenTour = Driven;

// Conversations and their template; the configuration is `lines` with these.
fs::path write_training(const fs::path& folder, double rate, const std::string& lines) {
    fs::create_directories(folder);
    std::string story = "Once upon a time there was a little dog.";
    for (const char* place : {"park", "house", "garden", "shop", "lake", "forest"})
        story += std::string(" The dog went to the ") + place + ".";
    const std::pair<const char*, std::string> turns[] = {{"hi", "Hello!"},
                                                         {"hello", "Hello!"},
                                                         {"what is your name?", "My name is Spot."},
                                                         {"who are you?", "My name is Spot."},
                                                         {"do you like the park?", "Yes! I like to play in the park."},
                                                         {"tell me about Lily", "Lily is a little girl. She likes to play."},
                                                         {"tell me a story", story}};
    std::ofstream data(folder / "turns.jsonl");
    for (int i = 0; i < 20; i++)
        for (const auto& [question, answer] : turns)
            data << json{{"messages", {{{"role", "user"}, {"content", question}}, {{"role", "assistant"}, {"content", answer}}}}}
                 << "\n";
    std::ofstream(folder / "turns.jinja")
        << "{{ bos_token }}{% for m in messages %}{% if m['role'] == 'assistant' %}{{ m['content'] "
           "}}{{ eos_token }}{% else %}Q: {{ m['content'] }}\nA: {% endif %}{% endfor %}";
    std::ofstream(folder / "chat.toml")
        << "[job]\ndump_folder = \"runs/spot\"\ndescription = \"a small model learns to answer\"\n"
        << "[training]\ndataset = \"turns.jsonl\"\ndataset_type = \"sft\"\nseq_len = 128\n"
        << lines << "[sft]\nchat_template = \"turns.jinja\"\n"
        << "[optimizer]\nlr = " << rate << "\nweight_decay = 0\n[quantization]\nquantizer = \"none\"\n";
    return folder / "chat.toml";
}

// `vkqat` as a shell runs it on the CPU's Vulkan.
fs::path write_program(const fs::path& folder) {
    fs::create_directories(folder);
    std::ofstream(folder / "vkqat") << "#!/bin/sh\nVKQAT_VALIDATION=0 exec " << VKQAT_LAUNCHER << " " << VKQAT_PROGRAM
                                    << " \"$@\"\n";
    fs::permissions(folder / "vkqat", fs::perms::owner_all);
    return folder / "vkqat";
}

TEST_F(DrivenTour, TrainsAModelFromTheWindowStopsItAndTalksToItBesideItsBase) {
    // A model that continues stories learns to answer, without end.
    const fs::path training = desktop->folder / "training", bin = desktop->folder / "bin",
                   config = write_training(training, 3e-3,
                                           "local_batch_size = 4\nsteps = 100000\n[metrics]\nlog_freq = 1\n"
                                           "[checkpoint]\ninterval = 100000\ninitial_load_path = \"" +
                                               stories.string() + "\"\n[lr_scheduler]\nwarmup_steps = 5\n");
    write_program(bin);
    desktop->environment = {{"PATH", bin.string() + ":" + std::getenv("PATH")}};
    desktop->start();
    ASSERT_TRUE(desktop->wait_for_text("Talk to a small model"));
    desktop->screenshot("first-start");
    add_models_by_dialog();
    ASSERT_TRUE(desktop->wait_for_text("needs "));

    // A run started from its configuration is watched at once, and its curve grows while it is looked at.
    desktop->key("ctrl+5");
    ASSERT_TRUE(desktop->click("Start a run"));
    ASSERT_TRUE(desktop->wait_for_text("Start a training from a configuration"));
    desktop->key("ctrl+a");
    desktop->type(config.string());
    desktop->key("Return");
    ASSERT_TRUE(desktop->wait_for_text("live  ·  "));
    int64_t first = -1;
    const auto step = [](const json& s) -> int64_t {
        for (const json& note : s["notes"])
            if (const std::string t = note["text"]; t.starts_with("step ") && t.find("loss") != t.npos)
                return std::atoll(t.c_str() + 5);
        return -1;
    };
    ASSERT_TRUE(desktop->wait([&](const json& s) { return (first = step(s)) > 0; }));
    ASSERT_TRUE(desktop->wait([&](const json& s) { return step(s) > first + 5; }));
    ASSERT_TRUE(desktop->wait([&](const json& s) { return has_text(s, "loss 0.0") && step(s) > 30; }, 240));
    desktop->screenshot("training");
    ASSERT_TRUE(desktop->click("Stop"));
    ASSERT_TRUE(desktop->wait_for_text("The training has ended"));
    ASSERT_TRUE(fs::exists(training / "runs/spot/checkpoint"));  // it has written one

    const std::string command = (bin / "vkqat").string() + " export " + (training / "runs/spot").string() + " " +
                                (desktop->folder / "models/spot").string() + " > /dev/null";
    ASSERT_EQ(std::system(command.c_str()), 0);
    desktop->key("ctrl+o");
    ASSERT_TRUE(desktop->wait_for_text("Add a folder with models"));
    desktop->key("ctrl+a");
    desktop->type((desktop->folder / "models").string());
    desktop->key("Return");
    ASSERT_TRUE(desktop->click("Choose"));
    ASSERT_TRUE(desktop->wait_for_text("models/spot"));
    desktop->key("ctrl+k");
    desktop->type("load spot");
    desktop->key("Return");
    ASSERT_TRUE(desktop->wait_for_text("in memory on"));
    EXPECT_FALSE(has_text(desktop->screen(), "no chat template"));
    ask("what is your name?");
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return answered(saved, 1); }));
    json c = desktop->saved()[0];
    EXPECT_NE(c["messages"][1]["content"].get<std::string>().find("Spot"), std::string::npos) << c["messages"][1]["content"];
    EXPECT_EQ(c["messages"][1]["stats"]["end"], "");  // it ends its turn by itself
    EXPECT_LT(c["messages"][1]["stats"]["tokens"], 40);

    // The answer is edited, and the conversation goes on from the edited one.
    ASSERT_TRUE(desktop->click("Edit"));
    desktop->key("ctrl+a");
    desktop->type("I am a dog");
    ASSERT_TRUE(desktop->click("Save"));
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return saved[0]["messages"].size() == 3; }));
    desktop->key("ctrl+shift+r");  // the answer is continued
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) {
        const json& m = saved[0]["messages"][2];
        return m["stats"]["prompt_tokens"] > 0 && m["content"].template get<std::string>().starts_with("I am a dog");
    }));

    // Two models answer the same prompt, each with its speed and memory.
    desktop->key("ctrl+2");
    ASSERT_TRUE(desktop->click("Beside"));  // the first row: the base
    ASSERT_TRUE(desktop->wait([](const json& s) {
        int loaded = 0;
        for (const json& note : s["notes"]) loaded += note["role"] == "badge" && note["text"] == "Loaded";
        return loaded == 2;
    }));
    desktop->screenshot("models");
    desktop->key("ctrl+n");
    ask("tell me about Lily");
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) {
        if (saved.size() != 2) return false;
        for (const json& chat : saved) {
            const std::vector<json> answers = of_role(chat, "assistant");
            if (chat["messages"][0]["content"] != "tell me about Lily") continue;
            return answers.size() == 2 && answers[0]["stats"]["tokens"] > 0 && answers[1]["stats"]["tokens"] > 0 &&
                   answers[0]["model"] != answers[1]["model"] && answers[0]["stats"]["device_bytes"] > 0 &&
                   answers[1]["stats"]["device_bytes"] > 0;
        }
        return false;
    }));
    ASSERT_TRUE(desktop->wait([](const json& s) {
        int stats = 0;
        for (const json& note : s["notes"])
            stats += note["role"] == "stats" && note["text"].get<std::string>().find("MB") != std::string::npos;
        return stats == 2;
    }));
    desktop->screenshot("compare");
    EXPECT_EQ(desktop->end(SIGTERM), 0);
}

// 6.2 million parameters, trained from nothing in ten seconds and quantized to 4 bits: it answers by heart, and its story is long
// enough to be stopped.
TEST_F(DrivenTour, TalksToALargerQuantizedModel) {
    const fs::path training = desktop->folder / "training",
                   config = write_training(training, 1e-3,
                                           "local_batch_size = 2\nsteps = 60\n[checkpoint]\ninterval = 100000\n"
                                           "[lr_scheduler]\nwarmup_steps = 4\n[model]\ntokenizer_path = \"" +
                                               stories.string() +
                                               "\"\nhidden_size = 256\nintermediate_size = 704\nnum_hidden_layers = 8\n"
                                               "num_attention_heads = 8\nnum_key_value_heads = 4\n"
                                               "max_position_embeddings = 2048\n");
    const std::string program = write_program(desktop->folder / "bin").string(), run = (training / "runs/spot").string(),
                      dense = (training / "dense").string(), model = (desktop->folder / "models/rex-4bit").string();
    fs::create_directories(desktop->folder / "models");
    for (const std::string& arguments : {" train " + config.filename().string(), " export " + run + " " + dense,
                                         " quantize " + dense + " " + model + " --bits 4"})
        ASSERT_EQ(std::system(("cd " + training.string() + " && " + program + arguments + " > " +
                               (desktop->folder / "vkqat.log").string())
                                  .c_str()),
                  0)
            << arguments;
    desktop->start({"--model", model});
    ASSERT_TRUE(desktop->wait_for_text("context of 2,048 tokens"));
    ask("who are you?");
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return answered(saved, 1); }));
    EXPECT_NE(desktop->saved()[0]["messages"][1]["content"].get<std::string>().find("Spot"), std::string::npos);
    desktop->key("ctrl+n");
    const auto story = [](const std::vector<json>& saved) {
        for (const json& c : saved)
            if (!c["messages"].empty() && c["messages"][0]["content"] == "tell me a story") return c;
        return json();
    };
    ask("tell me a story");
    desktop->key("Escape");
    ASSERT_TRUE(desktop->wait_for_saved([&](auto& saved) {
        const json c = story(saved);
        return c.is_object() && c["messages"][1]["stats"]["end"] == "stopped";
    })) << "it was faster than the key";
    desktop->key("ctrl+r");
    ASSERT_TRUE(desktop->wait_for_saved([&](auto& saved) {
        const json c = story(saved);
        return c["messages"].size() == 3 && c["messages"][2]["stats"]["tokens"] > 60;
    }));
    const json c = story(desktop->saved());
    const std::string half = c["messages"][1]["content"], whole = c["messages"][2]["content"];
    EXPECT_LT(half.size(), whole.size());
    EXPECT_NE(whole.find("The dog went to the forest."), std::string::npos) << whole;
    EXPECT_EQ(c["messages"][2]["stats"]["end"], "");
    desktop->screenshot("larger-model");
    expect_fluid();
    EXPECT_EQ(desktop->end(SIGTERM), 0);
}

// In every view, in windows of any size, at any scale: no button, box or field is cut off at its side.
TEST_F(DrivenTour, NothingIsCutOffInSmallAndLargeWindowsAtScaleOneAndTwo) {
    desktop = std::make_unique<Desktop>(2560, 1600);
    fs::create_directories(desktop->folder / "config/vkqat");
    std::ofstream(desktop->folder / "config/vkqat/settings.json")
        << json{{"folders", {stories.string()}}, {"theme", "light"}, {"chat_panel", true}};
    for (const double scale : {1.0, 2.0}) {
        desktop->size = scale == 1 ? "1280x800" : "2560x1600";
        desktop->start({"--model", stories.string(), "--scale", std::to_string(scale)});
        ASSERT_TRUE(desktop->wait_for_text(scale == 1 ? "in memory on" : " / 512"));
        ask("Once upon a time there was a little dog who lived in a big house with a garden");
        for (auto [width, height] : {std::pair{420, 320}, {640, 480}, {760, 560}, {1000, 700}, {1280, 800}}) {
            desktop->resize(int(width * scale), int(height * scale));
            for (const char* key : {"ctrl+1", "ctrl+2", "ctrl+3", "ctrl+4", "ctrl+5", "ctrl+comma"}) {
                desktop->key(key);
                SCOPED_TRACE(std::to_string(width) + " x " + std::to_string(height) + " times " + std::to_string(scale) + ", " +
                             key);
                const json screen = desktop->screen();
                for (const json& w : screen["widgets"]) EXPECT_FALSE(w.contains("cut")) << w.dump();
                desktop->screenshot(std::to_string(width) + "-" + std::to_string(int(scale)) + "-" +
                                    screen["view"].get<std::string>());
            }
        }
        EXPECT_EQ(desktop->end(SIGTERM), 0);
    }
}

}  // namespace
}  // namespace vkqat
