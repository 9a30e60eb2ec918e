// A sweep: models of several sizes, methods and bits, as a TOML file describes them, and the folder in which its results grow.
// docs/evaluation.md describes both.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <vector>

namespace vkqat {

struct SweepPoint {
    std::string name;                   // SIZE-METHOD-BITS; its files are named so
    std::string size, method;           // size: of a model that is trained, or the name of one that is given
    int bits = 16;                      // 16: full precision
    std::vector<std::string> train;     // trained: "--section.key=value" for `vkqat train`, in this order
    std::filesystem::path model;        // given: the model
    std::vector<std::string> quantize;  // and the options of `vkqat quantize`; none: it is measured as it is
    // What the model depends on: its training configuration as TOML, or how it is quantized. Without names of folders below the
    // results.
    std::string settings;
};

struct Sweep {
    std::filesystem::path config;  // of training; empty where all models are given
    std::vector<SweepPoint> points;
    std::vector<std::string> texts, tasks;  // files for `vkqat eval`
    int64_t context = 0, stride = 0, limit = 0;
    int few_shot = -1;
    std::string separator, sensitivity;  // sensitivity: a text for the layers' sensitivity of models in full precision
    bool keep_checkpoints = false;
    std::string evaluation() const;  // what is measured, as text: results of another one are measured again
};

// Reads and checks all of it, the training configuration of every model included. UsageError: an unknown key. Error naming file
// and key: a value of the wrong type, a name that nothing defines, a model twice, settings that contradict each other.
Sweep read_sweep(const std::filesystem::path& file);

// OUT/results/NAME.json of a folder, by name; none where there is no such folder.
std::vector<std::filesystem::path> result_files(const std::filesystem::path& folder);

// Copies the results of `from` (folders of sweeps), with the metrics.jsonl of their trainings, into `out`, where a model of the
// same name with the same settings stays as it is. Returns how many were copied. Error, before anything is copied: one name with
// two settings; no results at all.
size_t merge_results(const std::filesystem::path& out, const std::vector<std::filesystem::path>& from);

}  // namespace vkqat
