// The whole program, driven as a person would.
#include "tests/app/driven.h"

namespace vkqat {
namespace {

TEST_F(Driven, FromTheFirstStartToAnEditedConversation) {
    desktop->start();
    ASSERT_TRUE(desktop->wait_for_text("Talk to a small model"));
    add_models_by_dialog();
    ASSERT_TRUE(desktop->wait_for_text("Llama, 5 layers of 64"));
    ASSERT_TRUE(desktop->wait_for_text("needs "));  // the estimate
    ASSERT_TRUE(desktop->click("Load"));
    ASSERT_TRUE(desktop->wait_for_text("in memory on"));

    ask("Once upon a time");
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return answered(saved, 1); }));
    ASSERT_TRUE(desktop->wait_for_text("tokens/s"));
    EXPECT_EQ(desktop->saved()[0]["messages"][0]["content"], "Once upon a time");

    // Another answer stands beside the first one, and the earlier one can be chosen again.
    desktop->key("ctrl+r");
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return answered(saved, 2); }));
    EXPECT_EQ(desktop->saved()[0]["messages"][0]["chosen"], 2);
    ASSERT_TRUE(desktop->wait_for_text("2 / 2"));
    ASSERT_TRUE(desktop->click("Earlier answer"));
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return saved[0]["messages"][0]["chosen"] == 1; }));

    // An edited message is answered anew; the prefix that it shares comes from the cache.
    ASSERT_TRUE(desktop->click("Edit message"));
    desktop->key("ctrl+End");
    desktop->type(" there was a cat");
    ASSERT_TRUE(desktop->click("Save and answer"));
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return answered(saved, 3); }));
    const json c = desktop->saved()[0];
    EXPECT_EQ(c["first"], 3);
    EXPECT_EQ(c["messages"][3]["content"], "Once upon a time there was a cat");
    EXPECT_GT(c["messages"][4]["stats"]["cached_tokens"].get<int>(), 3);
    EXPECT_EQ(c["messages"][1]["content"].get<std::string>().empty(), false);

    EXPECT_EQ(desktop->end(SIGTERM), 0);
}

TEST_F(Driven, StopsSearchesExportsDeletesAndUndoes) {
    desktop->start({"--model", stories.string()});
    ASSERT_TRUE(desktop->wait_for_text("in memory on"));
    bool stopped = false;
    for (int round = 0; round < 5 && !stopped; round++) {  // a small model may be faster than a finger
        if (round) desktop->key("ctrl+n");
        ask("Lily and the zebra");
        desktop->key("Escape");
        ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) {
            if (saved.empty() || saved.back()["messages"].size() != 2) return false;
            const json& stats = saved.back()["messages"][1]["stats"];
            return stats["end"] != "" || stats["tokens"] > 0;
        }));
        for (const json& c : desktop->saved()) stopped |= c["messages"][1]["stats"]["end"] == "stopped";
    }
    EXPECT_TRUE(stopped);

    desktop->key("ctrl+f");
    desktop->type("walrus");
    ASSERT_TRUE(desktop->wait_for_text("Nothing found"));
    desktop->key("ctrl+a");
    desktop->type("ZEBRA");
    ASSERT_TRUE(desktop->wait([](const json& s) { return has_widget(s, "Lily and the zebra"); }));
    desktop->key("ctrl+a");
    desktop->key("BackSpace");

    desktop->key("ctrl+e");
    ASSERT_TRUE(desktop->wait_for_text("Export as Markdown"));
    desktop->key("ctrl+a");
    desktop->type(desktop->folder.string());
    desktop->key("Return");  // chooses the folder if it is the one that is shown, else goes there
    const fs::path exported = desktop->folder / "Lily and the zebra.md";
    auto is_there = [&](const json&) { return fs::exists(exported); };
    if (!desktop->wait(is_there, 3)) {
        ASSERT_TRUE(desktop->click("Choose"));
    }
    ASSERT_TRUE(desktop->wait(is_there));
    EXPECT_NE(text_of(exported).find("## You\n\nLily and the zebra"), std::string::npos);

    desktop->key("ctrl+shift+e");  // and as JSON, which is then imported as another conversation
    ASSERT_TRUE(desktop->wait_for_text("Export as JSON"));
    ASSERT_TRUE(desktop->click("Choose"));
    const fs::path as_json = desktop->folder / "Lily and the zebra.json";
    ASSERT_TRUE(desktop->wait([&](const json&) { return fs::exists(as_json); }));
    const size_t there = desktop->saved().size();
    desktop->key("ctrl+i");
    ASSERT_TRUE(desktop->wait_for_text("Import a conversation"));
    desktop->key("ctrl+a");
    desktop->type(as_json.string());
    desktop->key("Return");
    ASSERT_TRUE(desktop->wait_for_saved([&](auto& saved) { return saved.size() == there + 1; }));

    const size_t before = desktop->saved().size();
    desktop->key("ctrl+shift+d");
    ASSERT_TRUE(desktop->wait_for_saved([&](auto& saved) { return saved.size() == before - 1; }));
    ASSERT_TRUE(desktop->click("Undo"));
    ASSERT_TRUE(desktop->wait_for_saved([&](auto& saved) { return saved.size() == before; }));
}

TEST_F(Driven, AModelThatCannotBeLoadedIsSaidAndTheProgramGoesOn) {
    const fs::path bad = desktop->folder / "bad-model";
    fs::create_directory(bad);
    std::ofstream(bad / "config.json") << "{}";
    std::ofstream(bad / "model.safetensors") << "nothing";
    desktop->start({"--model", bad.string()});
    ASSERT_TRUE(desktop->wait_for_text("was not loaded"));
    ASSERT_TRUE(desktop->wait_for_text("config.json"));
    desktop->key("ctrl+comma");
    ASSERT_TRUE(desktop->wait_for_text("Appearance"));
    EXPECT_TRUE(desktop->running());
}

TEST_F(Driven, TheOtherViewsShowWhatIsMeasuredAndWhatTheirFoldersHold) {
    const fs::path results = desktop->folder / "sweep/results", run = desktop->folder / "runs/first";
    fs::create_directories(results);
    fs::create_directories(run);
    fs::create_directories(desktop->folder / "config/vkqat");
    for (int i = 0; i < 1000; i++)
        std::ofstream(results / ("m" + std::to_string(i) + ".json")) << json{{"format", "vkqat result"},
                                                                             {"format_version", 1},
                                                                             {"name", "m" + std::to_string(i)},
                                                                             {"method", i % 2 ? "k-means" : "full"},
                                                                             {"bits", 2},
                                                                             {"model", stories.string()},
                                                                             {"weight_bytes", 1000 + i * 17 % 901},
                                                                             {"perplexity", 5 + i * 31 % 97}};
    std::ofstream(run / "metrics.jsonl") << "{\"step\": 1, \"loss\": 7.5, \"learning_rate\": 0.1, \"tokens\": 100}\n";
    std::ofstream(desktop->folder / "config/vkqat/settings.json")
        << json{{"results", (desktop->folder / "sweep").string()}, {"runs", {(desktop->folder / "runs").string()}}};
    desktop->start({"--model", stories.string()});
    ASSERT_TRUE(desktop->wait_for_text("in memory on"));

    desktop->key("ctrl+3");
    ASSERT_TRUE(desktop->click("Measure"));
    ASSERT_TRUE(desktop->wait_for_text(" nodes, "));
    ASSERT_TRUE(desktop->wait_for_text("Weights 1.04 MB"));
    ASSERT_TRUE(desktop->wait_for_text("5 layers, 42 parts"));  // of the treemap

    desktop->key("ctrl+4");
    ASSERT_TRUE(desktop->wait_for_text("1000 points of perplexity against bytes"));
    ASSERT_TRUE(desktop->click("full"));  // the filter
    ASSERT_TRUE(desktop->wait_for_text("500 points of perplexity against bytes"));
    for (const char* kind : {"SVG", "PNG"}) {
        ASSERT_TRUE(desktop->click(kind));
        ASSERT_TRUE(desktop->wait_for_text("Save the plot as"));
        desktop->key("ctrl+a");
        desktop->type(desktop->folder.string());
        desktop->key("Return");
        const fs::path file = desktop->folder / (kind == std::string("SVG") ? "quality.svg" : "quality.png");
        auto is_there = [&](const json&) { return fs::exists(file); };
        if (!desktop->wait(is_there, 3)) {
            ASSERT_TRUE(desktop->click("Choose"));
        }
        ASSERT_TRUE(desktop->wait(is_there));
        EXPECT_TRUE(text_of(file).starts_with(kind == std::string("SVG") ? "<svg" : "\x89PNG"));
    }
    ASSERT_TRUE(desktop->click("m1"));  // its weights are those of a model that is there
    ASSERT_TRUE(desktop->wait_for_text("35 matrices"));
    ASSERT_TRUE(desktop->wait_for_text("model.layers.2.mlp.gate_proj: "));
    ASSERT_TRUE(desktop->click("model.layers.4.self_attn.q_proj"));
    ASSERT_TRUE(desktop->wait_for_text("model.layers.4.self_attn.q_proj: "));

    desktop->key("ctrl+5");
    ASSERT_TRUE(desktop->wait_for_text("loss 7.5000"));
    std::ofstream(run / "metrics.jsonl", std::ios::app)
        << "{\"step\": 2, \"loss\": 6.25, \"learning_rate\": 0.1, \"tokens\": 200}\n";
    ASSERT_TRUE(desktop->wait_for_text("loss 6.2500"));  // while it is watched
    expect_fluid();

    desktop->key("ctrl+k");
    desktop->type("go to sett");
    desktop->key("Return");
    ASSERT_TRUE(desktop->wait_for_text("Appearance"));
    ASSERT_TRUE(desktop->click("Light"));
    ASSERT_TRUE(desktop->wait([&](const json&) {
        return text_of(desktop->folder / "config/vkqat/settings.json").find("\"light\"") != std::string::npos;
    }));
    EXPECT_EQ(desktop->end(SIGTERM), 0);
    // What the command line says holds for that time only.
    desktop->start({"--theme", "dark", "--scale", "1.5"});
    ASSERT_TRUE(desktop->wait([](const json& s) { return s["dark"] == true; }));
    EXPECT_EQ(desktop->end(SIGTERM), 0);
    const json kept = json::parse(text_of(desktop->folder / "config/vkqat/settings.json"));
    EXPECT_EQ(kept["theme"], "light");
    EXPECT_EQ(kept["scale"], 0);
}

TEST_F(Driven, TakesModelsAndConversationsThatAreDroppedOnIt) {
    const fs::path models = desktop->folder / "models, and ünder %41", chat = desktop->folder / "a chat.json",
                   bad = desktop->folder / "bad.json";
    fs::create_directories(models);
    fs::create_symlink(stories, models / "stories");
    std::ofstream(chat) << json{{"format", "vkqat conversation"},
                                {"version", 1},
                                {"title", "Dropped"},
                                {"titled", true},
                                {"first", 0},
                                {"messages", {{{"parent", -1}, {"role", "user"}, {"content", "Said elsewhere"}}}}};
    std::ofstream(bad) << "{";
    desktop->start();
    ASSERT_TRUE(desktop->wait_for_text("Talk to a small model"));
    const int status = desktop->drop({models});
    if (status == 127) GTEST_SKIP() << "drop_files was not built: needs libx11-dev";
    ASSERT_EQ(status, 0);
    ASSERT_TRUE(desktop->wait_for_text("Llama, 5 layers of 64"));
    EXPECT_EQ(desktop->screen()["view"], "Models");
    ASSERT_EQ(desktop->drop({chat, bad}), 0);
    ASSERT_TRUE(desktop->wait_for_text("Said elsewhere"));
    EXPECT_EQ(desktop->screen()["view"], "Chat");
    ASSERT_TRUE(desktop->wait_for_text("bad.json"));  // why it is none
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return saved.size() == 1 && saved[0]["title"] == "Dropped"; }));
    desktop->screenshot("dropped");
    EXPECT_EQ(desktop->end(SIGTERM), 0);
}

// By what the desktop's settings portal says, asked and listened to through gdbus: a stand-in for it answers from a file.
TEST_F(Driven, FollowsTheDesktopsThemeWhileItRuns) {
    const fs::path bin = desktop->folder / "bin", said = desktop->folder / "portal", log = desktop->folder / "portal.log";
    fs::create_directories(bin);
    auto prefer = [&](int scheme) { std::ofstream(said) << "(<<uint32 " << scheme << ">>,)\n"; };
    prefer(2);
    std::ofstream(log) << "";
    std::ofstream(bin / "gdbus") << "#!/bin/sh\ncase \"$1\" in monitor) exec tail -n 0 -f " << log.string() << " ;; *) cat "
                                 << said.string() << " ;; esac\n";
    std::ofstream(bin / "gsettings") << "#!/bin/sh\nexit 1\n";
    for (const char* name : {"gdbus", "gsettings"}) fs::permissions(bin / name, fs::perms::owner_all);
    desktop->environment = {{"PATH", bin.string() + ":" + std::getenv("PATH")},
                            {"DBUS_SESSION_BUS_ADDRESS", "unix:path=/nowhere"}};
    desktop->start();
    ASSERT_TRUE(desktop->wait([](const json& s) { return s["dark"] == false; }));
    std::this_thread::sleep_for(std::chrono::seconds(1));  // until it listens
    prefer(1);
    std::ofstream(log, std::ios::app) << "SettingChanged ('org.freedesktop.appearance', 'color-scheme', <uint32 1>)\n";
    ASSERT_TRUE(desktop->wait([](const json& s) { return s["dark"] == true; }));
    EXPECT_EQ(desktop->end(SIGTERM), 0);
}

TEST_F(Driven, KeepsTheUsersPresetsAndCopiesWhatIsSelectedOverSeveralMessages) {
    desktop->start({"--model", stories.string()});
    ASSERT_TRUE(desktop->wait_for_text("in memory on"));
    desktop->key("ctrl+shift+s");
    ASSERT_TRUE(desktop->click("Greedy"));
    ASSERT_TRUE(desktop->click("Save as a preset"));
    desktop->type("Stories");
    desktop->key("Return");
    const fs::path file = desktop->folder / "config/vkqat/presets.json";
    auto saved_presets = [&] { return json::parse(text_of(file), nullptr, false); };
    ASSERT_TRUE(desktop->wait([&](const json&) { return saved_presets().is_array() && saved_presets().size() == 1; }));
    EXPECT_EQ(saved_presets()[0]["name"], "Stories");
    EXPECT_EQ(saved_presets()[0]["settings"]["greedy"], true);

    ask("Once upon a time");
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return answered(saved, 1); }));
    ASSERT_TRUE(desktop->wait([](const json& s) { return has_widget(s, "Regenerate"); }));
    const json c = desktop->saved()[0];
    EXPECT_EQ(c["settings"]["preset"], "Stories");
    // From the middle of the question to the middle of the answer.
    desktop->key("ctrl+Home");
    std::vector<json> texts;
    const json screen = desktop->screen();
    for (const json& w : screen["widgets"])
        if (w["label"] == "text") texts.push_back(w);
    ASSERT_EQ(texts.size(), 2u);
    auto middle = [](const json& w, const char* at, const char* size, double share) {
        return int(w[at].get<double>() + share * w[size].get<double>());
    };
    desktop->drag(middle(texts[0], "x", "width", 0.5), middle(texts[0], "y", "height", 0.5), middle(texts[1], "x", "width", 0.5),
                  middle(texts[1], "y", "height", 0.5));
    desktop->key("ctrl+c");
    ASSERT_TRUE(desktop->click("Message"));
    desktop->key("ctrl+v");
    desktop->key("ctrl+n");  // the draft is kept
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return !saved.empty() && saved[0]["draft"] != ""; }));
    const std::string draft = desktop->saved()[0]["draft"], question = c["messages"][0]["content"],
                      answer = c["messages"][1]["content"];
    const size_t gap = draft.find("\n\n");
    ASSERT_NE(gap, draft.npos) << draft;
    EXPECT_GT(gap, 2u);
    EXPECT_LT(gap, question.size());
    EXPECT_TRUE(question.ends_with(draft.substr(0, gap))) << draft;
    const std::string rest = draft.substr(gap + 2, 20);  // up to its first line's end
    EXPECT_NE(answer.find(rest.substr(0, rest.find('\n'))), answer.npos) << draft;
    EXPECT_LT(draft.size(), question.size() + answer.size());

    EXPECT_EQ(desktop->end(SIGTERM), 0);
    desktop->start();
    desktop->key("ctrl+Next");  // the conversation with that preset
    ASSERT_TRUE(desktop->click("Delete this preset"));
    ASSERT_TRUE(desktop->wait([&](const json&) { return saved_presets().is_array() && saved_presets().empty(); }));
    ASSERT_TRUE(desktop->click("Undo"));
    ASSERT_TRUE(desktop->wait([&](const json&) { return saved_presets().is_array() && saved_presets().size() == 1; }));
    EXPECT_EQ(desktop->end(SIGTERM), 0);
}

// What is drawn from right to left is copied as it is written.
TEST_F(Driven, SelectsAndCopiesRightToLeftText) {
    const std::string said =
        "\u05e9\u05dc\u05d5\u05dd \u05e2\u05d5\u05dc\u05dd 123 vkqat \u05e9\u05dc \u05de\u05d9\u05dc\u05d4 "
        "\u0633\u0644\u0627\u0645 \u0644\u0644\u0639\u0627\u0644\u0645";
    fs::create_directories(desktop->conversations());
    std::ofstream(desktop->conversations() / "rtl.json") << json{
        {"format", "vkqat conversation"}, {"version", 1}, {"titled", true},
        {"title", "Both ways"},           {"first", 0},   {"messages", {{{"parent", -1}, {"role", "user"}, {"content", said}}}}};
    desktop->start();
    ASSERT_TRUE(desktop->click("Both ways"));
    ASSERT_TRUE(desktop->wait([](const json& s) { return has_widget(s, "text"); }));
    const json w = desktop->widget("text");
    const int x = w["x"], y = w["y"].get<int>() + w["height"].get<int>() / 2, width = w["width"];
    desktop->drag(x + width - 1, y, x + width / 2, y);  // from its beginning at the right to its middle
    desktop->screenshot("right-to-left");
    desktop->key("ctrl+c");
    ASSERT_TRUE(desktop->click("Message"));
    desktop->key("ctrl+v");
    desktop->key("ctrl+n");
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return !saved.empty() && saved[0]["draft"] != ""; }));
    const std::string draft = desktop->saved()[0]["draft"];
    EXPECT_TRUE(said.starts_with(draft)) << draft;
    EXPECT_GT(draft.size(), said.size() / 4);
    EXPECT_LT(draft.size(), said.size() * 3 / 4);
    EXPECT_EQ(desktop->end(SIGTERM), 0);
}

// A live profile leaves the text as it is, and shows a node-by-node measurement from within the answer.
TEST_F(Driven, ShowsALiveProfileOfAnAnswer) {
    fs::create_directories(desktop->conversations());
    std::ofstream(desktop->conversations() / "greedy.json") << json{{"format", "vkqat conversation"},
                                                                    {"version", 1},
                                                                    {"settings", {{"greedy", true}, {"max_tokens", 400}}},
                                                                    {"messages", json::array()}};
    std::ofstream(desktop->conversations() / "greedy2.json") << json{{"format", "vkqat conversation"},
                                                                     {"version", 1},
                                                                     {"settings", {{"greedy", true}, {"max_tokens", 400}}},
                                                                     {"messages", json::array()}};
    desktop->start({"--model", stories.string(), "--view", "profile"});
    ASSERT_TRUE(desktop->wait_for_text("5 layers, "));  // the treemap
    for (int live : {0, 1}) {
        if (live) {
            ASSERT_TRUE(desktop->click("Live"));
        }
        desktop->key("ctrl+1");
        desktop->key(live ? "ctrl+Next" : "ctrl+Prior");
        ask("Once upon a time");
        ASSERT_TRUE(desktop->wait_for_saved([&](auto& saved) {
            int done = 0;
            for (const json& c : saved) done += c["messages"].size() == 2 && c["messages"][1]["stats"]["end"] == "length";
            return done == live + 1;
        }));
        desktop->key("ctrl+3");
    }
    const auto all = desktop->saved();
    EXPECT_EQ(all[0]["messages"][1]["content"], all[1]["messages"][1]["content"]);
    ASSERT_TRUE(desktop->wait_for_text("live at token"));
    EXPECT_EQ(desktop->end(SIGTERM), 0);
}

TEST_F(Driven, StaysFluidWithALongConversationAndIdlesWithoutWork) {
    // 400 KB in 200 messages, with Markdown of all kinds.
    fs::create_directories(desktop->conversations());
    json c{{"format", "vkqat conversation"}, {"version", 1}, {"titled", true}, {"title", "Long"}, {"first", 0},
           {"messages", json::array()}};
    std::string body;
    for (int i = 0; body.size() < 2000; i++)
        body += "## Part " + std::to_string(i) +
                "\n\nSome *words* with `code` and **weight**, and a list:\n\n- one\n- two\n\n```cpp\nint main() { return 0; "
                "}\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n";
    for (int i = 0; i < 200; i++)
        c["messages"].push_back({{"parent", i - 1}, {"role", i % 2 ? "assistant" : "user"}, {"content", i % 2 ? body : body}});
    std::ofstream(desktop->conversations() / "long.json") << c.dump();
    // And as two messages, with letters of other scripts.
    std::string all = "Привет, мир. 你好，世界。\n\n";
    while (all.size() < 400'000) all += body;
    c["title"] = "Huge";
    c["messages"] = json::array(
        {{{"parent", -1}, {"role", "user"}, {"content", all}}, {{"parent", 0}, {"role", "assistant"}, {"content", all}}});
    std::ofstream(desktop->conversations() / "huge.json") << c.dump();
    desktop->start({"--model", stories.string()});
    ASSERT_TRUE(desktop->wait([](const json& s) { return has_widget(s, "Long"); }));
    ASSERT_TRUE(desktop->click("Long"));
    ASSERT_TRUE(desktop->wait_for_text("Some *words*"));
    std::this_thread::sleep_for(std::chrono::seconds(1));
    // A message in it, answered while it is open: the context has no room for the rest, which is dropped.
    ask("Once");
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) {
        const json& long_one = saved.back();
        return long_one["messages"].size() == 202 && long_one["messages"][201]["stats"]["tokens"].template get<int>() > 0;
    }));
    for (int i = 0; i < 5; i++) desktop->key("Prior");
    expect_fluid();
    // What a person does with it: to both ends, a search through all of it, another chat and back (so that it is read and laid
    // out anew), the other theme, larger letters, a narrower window.
    for (const char* key : {"ctrl+Home", "Next", "Next", "ctrl+End", "ctrl+f"}) desktop->key(key);
    desktop->type("weight");
    desktop->key("ctrl+a");
    desktop->key("BackSpace");
    expect_fluid();
    desktop->key("ctrl+n");
    desktop->key("ctrl+Next");
    ASSERT_TRUE(desktop->wait_for_text("Some *words*"));
    expect_fluid();
    desktop->key("ctrl+shift+l");
    expect_fluid();
    desktop->key("ctrl+equal");
    expect_fluid();
    desktop->resize(1000, 700);
    expect_fluid();
    ASSERT_TRUE(desktop->click("Huge"));
    ASSERT_TRUE(desktop->wait_for_text("Привет"));
    for (const char* key : {"ctrl+Home", "Next", "Next", "ctrl+End"}) desktop->key(key);
    expect_fluid();

    std::this_thread::sleep_for(std::chrono::seconds(8));  // messages on the screen have gone
    const auto frames = [&](const char* what) { return desktop->screen()["frames"][what].get<int64_t>(); };
    const int64_t frames_before = frames("count"), submissions_before = frames("submissions");
    const double before = cpu_seconds();
    std::this_thread::sleep_for(std::chrono::seconds(5));
    EXPECT_LT(cpu_seconds() - before, 0.1);  // 2 %, with what the device does, which is a CPU here
    // The list is written with a frame only: one is asked for. A window that had drawn on would have come to a hundred.
    desktop->key("ctrl+l");
    desktop->key("ctrl+2");
    ASSERT_TRUE(desktop->wait([](const json& s) { return s["view"] == "Models"; }));
    EXPECT_LE(frames("count") - frames_before, 30);
    EXPECT_LE(frames("submissions") - submissions_before, 30);
}

}  // namespace
}  // namespace vkqat
