// A teacher's logits on disk: training from them, and what becomes of files that do not fit.
#include "trainer/teacher_cache.h"

#include "tests/trainer/trained_model.h"

namespace vkqat {
namespace {

namespace fs = std::filesystem;
using test::ScratchFolder;

// A small teacher in `folder`/teacher, and the configuration of a student.
TrainConfig with_teacher(const ScratchFolder& folder, const std::string& name) {
    TrainConfig base = test::tiny_config(folder.path());
    if (!fs::exists(folder / "teacher")) {
        base.training.steps = 40;
        test::train_and_export(base, folder / "teacher");
    }
    base.job.dump_folder = (folder / name).string();
    base.training.steps = 12;
    base.training.global_batch_size = 8;
    base.quantization.quantizer = "int_asym";
    base.distillation.teacher = (folder / "teacher").string();
    base.distillation.loss = "forward";
    base.distillation.label_weight = 0.5;
    return base;
}

// The training's message, or "" if there was none, in a folder of its own.
std::string error_of(TrainConfig c) {
    for (int i = 0; fs::exists(c.job.dump_folder); i++) c.job.dump_folder += std::to_string(i);
    try {
        test::run(c);
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

TEST(TeacherCache, AllLogitsKeptTrainAsTheTeacherDoes) {
    ScratchFolder folder;
    for (const char* loss : {"forward", "cakld"}) {
        SCOPED_TRACE(loss);
        TrainConfig live = with_teacher(folder, std::string("live-") + loss),
                    kept = with_teacher(folder, std::string("kept-") + loss);
        for (TrainConfig* c : {&live, &kept}) {
            c->distillation.loss = loss;
            if (std::string(loss) == "cakld") c->distillation.coefficient = 0.4;
        }
        kept.distillation.cache = (folder / "cache").string();
        kept.distillation.cache_top_k = 1 << 20;  // more than there are: all
        test::run(live);
        test::run(kept);
        if (test::device().capabilities().kind == DeviceKind::cpu) {
            test::expect_same_checkpoint(live, kept, 12);
            continue;
        }
        // On GPUs products of other sizes may be computed in other tiles.
        const auto a = test::metrics(live), b = test::metrics(kept);
        for (size_t i = 0; i < a.size(); i++)
            if (a[i].contains("loss")) {
                EXPECT_NEAR(a[i]["loss"].get<double>(), b[i]["loss"].get<double>(), 1e-3);
            }
    }
}

TEST(TeacherCache, AFewLogitsAreEnoughToLearnFrom) {
    ScratchFolder folder;
    TrainConfig live = with_teacher(folder, "live"), kept = with_teacher(folder, "kept");
    for (TrainConfig* c : {&live, &kept}) {
        c->distillation.loss = "cakld";  // gamma is measured
        c->distillation.label_weight = 0;
        c->training.steps = 24;
        c->validation.enable = true;
        c->validation.dataset = {(folder / "valid.txt").string()};
        c->validation.freq = 24;
    }
    kept.distillation.cache = (folder / "cache").string();
    kept.distillation.cache_top_k = 100;  // of 300: a teacher of 40 steps is sure of nothing
    test::Log log;
    test::run(live, {}, &log);
    const auto gamma = [&] {
        for (const std::string& line : log.lines)
            if (line.find("gamma ") != line.npos) return line.substr(line.find("gamma "), 11);
        return std::string();
    };
    const std::string of_live = gamma();
    log.lines.clear();
    test::run(kept, {}, &log);
    EXPECT_EQ(gamma(), of_live);
    EXPECT_TRUE(log.contains("writes its 100 largest logits"));
    auto validation = [](const TrainConfig& c) {
        for (const nlohmann::json& line : test::metrics(c))
            if (line.contains("validation_loss")) return line["validation_loss"].get<double>();
        return 0.0;
    };
    EXPECT_NEAR(validation(kept), validation(live), 0.1);

    // Another training with the same data reads it. It does not write, and never has the teacher in memory.
    TrainConfig again = kept;
    again.job.dump_folder = (folder / "again").string();
    again.quantization.quantizer = "sym_int";
    log.lines.clear();
    test::run(again, {}, &log);
    EXPECT_FALSE(log.contains("writes its"));
    EXPECT_TRUE(log.contains("its 100 largest logits"));
}

TEST(TeacherCache, IsGoneOnWithWhereItWasStopped) {
    ScratchFolder folder;
    TrainConfig whole = with_teacher(folder, "whole"), parts = with_teacher(folder, "parts");
    for (TrainConfig* c : {&whole, &parts}) c->distillation.cache_top_k = 8;
    whole.distillation.cache = (folder / "whole-cache").string();
    parts.distillation.cache = (folder / "parts-cache").string();
    test::run(whole);
    int asked = 0;
    EXPECT_THROW(test::run(parts, {.stop = [&] { return ++asked == 12; }}), Error);  // 8 batches are a file
    const auto files = test::names_in(folder / "parts-cache");
    EXPECT_EQ(files, std::vector<std::string>{"teacher-00000000.safetensors"});
    const auto written = fs::last_write_time(folder / "parts-cache" / files[0]);
    // Then in the middle of the training.
    test::run_until(parts, 5, false);
    EXPECT_EQ(fs::last_write_time(folder / "parts-cache" / files[0]), written);
    test::run(parts, {.resume = true});
    test::expect_same_checkpoint(whole, parts, 12);
    for (const std::string& name : test::names_in(folder / "whole-cache"))
        EXPECT_TRUE(read_text_file(folder / "whole-cache" / name) == read_text_file(folder / "parts-cache" / name)) << name;
}

TEST(TeacherCache, WhatDoesNotFitIsRefused) {
    ScratchFolder folder;
    TrainConfig c = with_teacher(folder, "first");
    c.distillation.cache = (folder / "cache").string();
    c.distillation.cache_top_k = 8;
    test::run(c);
    c.job.dump_folder = (folder / "second").string();
    TrainConfig other = c;
    other.training.seed = 2;
    EXPECT_NE(error_of(other).find("was another text"), std::string::npos);
    other = c;
    other.distillation.cache_top_k = 9;
    EXPECT_NE(error_of(other).find("top_k is 8, expected 9"), std::string::npos);
    other = c;
    other.training.seq_len = 16;
    EXPECT_NE(error_of(other).find("seq_len is 32, expected 16"), std::string::npos);
    other = c;
    other.distillation.teacher = (folder / "another").string();
    fs::copy(folder / "teacher", folder / "another", fs::copy_options::recursive);
    test::flip_byte(folder / "another" / "model.safetensors", 10);
    EXPECT_NE(error_of(other).find("teacher is "), std::string::npos);
    other = c;
    other.distillation.hidden_weight = 1;
    EXPECT_NE(error_of(other).find("keeps no hidden states"), std::string::npos);

    const fs::path file = folder / "cache" / "teacher-00000001.safetensors";
    test::flip_byte(file, 1);  // of the last window's ids
    std::string error = error_of(c);
    EXPECT_NE(error.find("is damaged"), std::string::npos) << error;
    fs::resize_file(file, fs::file_size(file) - 100);
    error = error_of(c);
    EXPECT_NE(error.find("teacher-00000001"), std::string::npos) << error;
    // Removed, it is made again.
    fs::remove(file);
    EXPECT_EQ(error_of(c), "");
}

}  // namespace
}  // namespace vkqat
