// The whole program when something goes wrong: it is killed in the middle of its work, or a device is lost under it.
#include "tests/app/driven.h"

namespace vkqat {
namespace {

using DrivenFaults = Driven;

TEST_F(DrivenFaults, KilledInTheMiddleOfAnAnswerNothingIsLost) {
    desktop->start({"--model", stories.string()});
    ASSERT_TRUE(desktop->wait_for_text("in memory on"));
    ask("One day a dog");
    ASSERT_TRUE(desktop->wait_for_text("One day a dog"));
    EXPECT_EQ(desktop->end(SIGKILL), -SIGKILL);
    std::ofstream(desktop->conversations() / "broken.json") << "{\"messages\": [";
    desktop->start();
    ASSERT_TRUE(desktop->wait_for_text("broken.json"));  // named
    ASSERT_TRUE(desktop->wait_for_text("One day a dog"));
    EXPECT_TRUE(fs::exists(desktop->conversations() / "broken.json.damaged"));
    ASSERT_EQ(desktop->saved().size(), 1u);
    EXPECT_EQ(desktop->saved()[0]["messages"][0]["content"], "One day a dog");
}

// Half of the file is written, or all of it and its name not yet given: what was there before is there, and what was said since.
TEST_F(DrivenFaults, KilledInTheMiddleOfASaveTheEarlierFileIsThere) {
    for (const char* moment : {"write second message", "rename conversations/"}) {
        SCOPED_TRACE(moment);
        fs::remove_all(desktop->folder / "data");
        desktop->environment.clear();
        desktop->start({"--model", stories.string()});
        ASSERT_TRUE(desktop->wait_for_text("in memory on"));
        ask("The first message");
        ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return answered(saved, 1); }));
        const json before = desktop->saved()[0];
        EXPECT_EQ(desktop->end(SIGTERM), 0);
        desktop->environment = {{"LD_PRELOAD", std::string(VKQAT_FAULTS) + "/kill_at_save.so"}, {"VKQAT_KILL_AT", moment}};
        desktop->start({"--model", stories.string()});
        ASSERT_TRUE(desktop->wait_for_text(" / 512"));  // the model is there
        ask("The second message");
        for (int i = 0; i < 200 && desktop->running(); i++) std::this_thread::sleep_for(std::chrono::milliseconds(50));
        EXPECT_FALSE(desktop->running());
        desktop->environment.clear();
        desktop->start();
        ASSERT_TRUE(desktop->wait_for_text("The first message"));
        ASSERT_EQ(desktop->saved().size(), 1u);
        const json after = desktop->saved()[0];
        for (int i : {0, 1}) EXPECT_EQ(after["messages"][size_t(i)]["content"], before["messages"][size_t(i)]["content"]);
        for (const auto& entry : fs::directory_iterator(desktop->conversations()))
            EXPECT_TRUE(entry.is_directory() || entry.path().extension() == ".json") << entry.path();  // nothing half is left
        EXPECT_EQ(desktop->end(SIGTERM), 0);
    }
}

TEST_F(DrivenFaults, KilledInTheMiddleOfALoadAllIsThereOnRestart) {
    desktop->start({"--model", stories.string()});
    ASSERT_TRUE(desktop->wait_for_text("in memory on"));
    ask("Once upon a time");
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return answered(saved, 1); }));
    const json before = desktop->saved();
    EXPECT_EQ(desktop->end(SIGTERM), 0);
    desktop->set_vulkan_fault("kill model 1");  // the first piece of the weights on its way to the device
    desktop->start();
    add_models_by_dialog();
    ASSERT_TRUE(desktop->click("Load"));
    for (int i = 0; i < 400 && desktop->running(); i++) std::this_thread::sleep_for(std::chrono::milliseconds(50));
    EXPECT_FALSE(desktop->running());
    desktop->set_vulkan_fault("");
    desktop->start();
    ASSERT_TRUE(desktop->wait_for_text("Once upon a time"));
    desktop->key("ctrl+2");
    ASSERT_TRUE(desktop->wait_for_text("Llama, 5 layers of 64"));  // the library too
    EXPECT_EQ(json(desktop->saved()), before);
    ASSERT_TRUE(desktop->click("Load"));
    ask("And then");
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return answered(saved, 2); }));
    EXPECT_EQ(desktop->end(SIGTERM), 0);
}

// Copies are on their way when it is cancelled (150 ms each): their buffers stay until they have arrived.
TEST_F(DrivenFaults, ALoadShowsItsProgressAndCanBeCancelled) {
    desktop->set_vulkan_fault("slow model 150");
    desktop->start({"--model", stories.string()});
    desktop->key("ctrl+2");
    ASSERT_TRUE(desktop->click("Cancel load"));
    ASSERT_TRUE(desktop->wait([](const json& s) { return !has_widget(s, "Cancel load") && !has_text(s, "Loaded"); }, 10));
    EXPECT_FALSE(has_text(desktop->screen(), "Failed"));
    EXPECT_EQ(desktop->end(SIGTERM), 0);
}

TEST_F(DrivenFaults, TheModelsDeviceIsLostAndTheModelCanBeLoadedAgain) {
    desktop->set_vulkan_fault("lose model 60");
    desktop->start({"--model", stories.string()});
    ASSERT_TRUE(desktop->wait_for_text("in memory on"));
    ask("Once upon a time");
    ASSERT_TRUE(desktop->wait_for_text("can be loaded again"));
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) {
        return saved.size() == 1 && saved[0]["messages"].size() == 2 &&
               saved[0]["messages"][1]["stats"]["end"].template get<std::string>().find("device lost") != std::string::npos;
    }));
    EXPECT_FALSE(desktop->saved()[0]["messages"][1]["content"].get<std::string>().empty());  // what it had said stays
    desktop->key("ctrl+2");
    ASSERT_TRUE(desktop->click("Try again"));
    ASSERT_TRUE(desktop->wait_for_text("Loaded"));
    desktop->key("ctrl+1");
    desktop->key("ctrl+r");
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return answered(saved, 2); }));
    EXPECT_EQ(desktop->end(SIGTERM), 0);
}

TEST_F(DrivenFaults, TheWindowsDeviceIsLostAndTheWindowGoesOn) {
    desktop->set_vulkan_fault("lose window 25");
    desktop->start({"--model", stories.string()});
    ASSERT_TRUE(desktop->wait_for_text("in memory on"));
    ask("Once upon a time");  // more than 25 frames
    ASSERT_TRUE(desktop->wait_for_saved([](auto& saved) { return answered(saved, 1); }));
    ASSERT_TRUE(desktop->wait([](const json& s) { return s["frames"]["submissions"] > 30; }));
    EXPECT_EQ(desktop->screen()["frames"]["losses"], 1);
    desktop->key("ctrl+comma");
    ASSERT_TRUE(desktop->wait_for_text("Appearance"));
    EXPECT_EQ(desktop->end(SIGTERM), 0);
}

}  // namespace
}  // namespace vkqat
