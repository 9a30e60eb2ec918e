#include "trainer/config.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "runtime/support/error.h"
#include "tests/support/reference.h"
#include "tests/support/scratch_folder.h"
#include "trainer/config_keys.h"
#include "trainer/flavors.h"

namespace vkqat {
namespace {

using test::error_of;
using test::ScratchFolder;

// What every configuration needs, in front of what a test is about.
constexpr std::string_view needed = "[job]\ndescription='t'\n[model]\ntokenizer_path='tok'\n[training]\ndataset='a.txt'\n";

TrainConfig load(const std::string& text, const std::vector<std::string>& overrides = {}) {
    ScratchFolder folder;
    return load_train_config(folder.write("run.toml", text), overrides);
}

TrainConfig load_with(const std::vector<std::string>& overrides) { return load(std::string(needed), overrides); }

std::string error_with(const std::vector<std::string>& overrides) {
    return error_of([&] { load_with(overrides); });
}

std::string error_in(const std::string& text) {
    return error_of([&] { load(text); });
}

TEST(TrainConfig, ReadsEverySectionOfAFile) {
    TrainConfig c = load(R"([job]
dump_folder = "out"
[model]
flavor = "500M"
tokenizer_path = "tok"
vocab_size = 1000
[optimizer]
lr = 1e-3
beta2 = 0.99
[lr_scheduler]
warmup_steps = 7
decay_type = "sqrt"
[training]
dataset = ["a.txt", "b/*.jsonl"]
dataset_separator = "<|end|>\n"
local_batch_size = 4
global_batch_size = 12
steps = 1e5
precision = "bf16"
[checkpoint]
enable = false
folder = "saved"
[metrics]
log_freq = 3
[validation]
enable = true
dataset = "v.txt"
[quantization]
quantizer = "nonlinear"
target_bit_width = 3
block_dim_2 = 0
relative_scale = "rms"
centroid_update_algorithm = "fischer_kmeans"
qat_start_step = 11
ignore_names = []
)");
    EXPECT_EQ(c.model.flavor, "500M");
    EXPECT_EQ(c.model.vocab_size, 1000);
    EXPECT_EQ(c.optimizer.lr, 1e-3);
    EXPECT_EQ(c.optimizer.beta1, 0.9);  // the default
    EXPECT_EQ(c.optimizer.beta2, 0.99);
    EXPECT_EQ(c.lr_scheduler.decay_type, "sqrt");
    EXPECT_EQ(c.training.dataset, (std::vector<std::string>{"a.txt", "b/*.jsonl"}));
    EXPECT_EQ(c.training.dataset_separator, "<|end|>\n");
    EXPECT_EQ(c.training.steps, 100000);
    EXPECT_EQ(c.global_batch_size(), 12);
    EXPECT_EQ(c.checkpoint_folder(), std::filesystem::path("out/saved"));
    EXPECT_FALSE(c.checkpoint.enable);
    EXPECT_EQ(c.metrics.log_freq, 3);
    EXPECT_EQ(c.validation.dataset, std::vector<std::string>{"v.txt"});
    EXPECT_TRUE(c.quantization.ignore_names.empty());
    QuantizerConfig q = quantizer_config(c);
    EXPECT_EQ(q.kind, QuantizerKind::nonlinear);
    EXPECT_EQ(q.bits, 3);
    EXPECT_EQ(q.block_dim_1, 1);
    EXPECT_EQ(q.block_dim_2, 0);
    EXPECT_EQ(q.scale, ScaleStatistic::rms);
}

TEST(TrainConfig, TheGlobalBatchIsTheLocalOneUnlessGiven) {
    EXPECT_EQ(load_with({"--training.local_batch_size=6"}).global_batch_size(), 6);
}

TEST(TrainConfig, OverridesReplaceTheFileInOrder) {
    TrainConfig c = load_with({"--optimizer.lr=0.5", "--optimizer.lr=0.25", "--quantization.ignore_names=[\"output\", \"wo\"]",
                               "--checkpoint.enable=false", "--training.steps=1e3", "--optimizer.weight_decay=0"});
    EXPECT_EQ(c.optimizer.lr, 0.25);
    EXPECT_EQ(c.quantization.ignore_names, (std::vector<std::string>{"output", "wo"}));
    EXPECT_FALSE(c.checkpoint.enable);
    EXPECT_EQ(c.training.steps, 1000);
    EXPECT_EQ(c.optimizer.weight_decay, 0);
}

TEST(TrainConfig, AnOverriddenStringNeedsNoQuotes) {
    TrainConfig c = load_with({"--job.description=2 bits, first=try", "--job.dump_folder=2024", "--training.dataset=x/*.txt",
                               "--training.dataset_separator=\"\\n--\\n\"", "--model.flavor=1B"});
    EXPECT_EQ(c.job.description, "2 bits, first=try");
    EXPECT_EQ(c.job.dump_folder, "2024");
    EXPECT_EQ(c.training.dataset, std::vector<std::string>{"x/*.txt"});
    EXPECT_EQ(c.training.dataset_separator, "\n--\n");
    EXPECT_EQ(c.model.flavor, "1B");
    EXPECT_EQ(load_with({"--job.description=1\n[model]\nflavor='4B'"}).model.flavor, "");
    EXPECT_EQ(load_with({"--job.description="}).job.description, "");
}

TEST(TrainConfig, AMisspeltKeyIsAUsageErrorThatNamesLineAndNearestKey) {
    ScratchFolder folder;
    auto file = folder.write("run.toml", std::string(needed) + "[optimizer]\nlr = 1.0\nweight_decai = 0.1\n");
    EXPECT_THROW(load_train_config(file), UsageError);
    std::string message = error_of([&] { load_train_config(file); });
    EXPECT_CONTAINS(message, "run.toml:9: unknown key 'weight_decai' in section [optimizer]");
    EXPECT_CONTAINS(message, "weight_decay in section [optimizer]");
}

TEST(TrainConfig, AKeyInTheWrongSectionIsShownTheRightOne) {
    EXPECT_CONTAINS(error_in("[training]\nlr = 1"), "nearest one is lr in section [optimizer]");
    EXPECT_CONTAINS(error_in("lr = 1"), "run.toml:1: 'lr' stands in no section; the nearest key is lr in section [optimizer]");
}

TEST(TrainConfig, AMisspeltSectionIsAUsageErrorThatNamesLineAndNearestSection) {
    ScratchFolder folder;
    auto file = folder.write("run.toml", "\n[optimiser]\nlr = 1\n");
    EXPECT_THROW(load_train_config(file), UsageError);
    EXPECT_CONTAINS(error_of([&] { load_train_config(file); }),
                    "run.toml:2: unknown section [optimiser]; the nearest one is [optimizer]");
    EXPECT_CONTAINS(error_in("[[optimizer]]\nlr = 1"), "stands in no section");
}

TEST(TrainConfig, AMisspeltOverrideIsAUsageErrorThatNamesTheNearestKey) {
    EXPECT_THROW(load_with({"--optimiser.lr=1"}), UsageError);
    EXPECT_CONTAINS(error_with({"--optimiser.lr=1"}), "--optimiser.lr=1: unknown key; the nearest one is --optimizer.lr");
    EXPECT_CONTAINS(error_with({"--trainnig.step=1"}), "--training.steps");
    for (std::string text : {"training.steps=1", "--training.steps", "--steps=1", "--", "", "--=", "--steps=a.b"}) {
        EXPECT_THROW(load_with({text}), UsageError) << text;
        EXPECT_CONTAINS(error_with({text}), "expected --section.key=value");
    }
}

TEST(TrainConfig, AValueOfTheWrongTypeNamesBothTypes) {
    EXPECT_CONTAINS(error_in("[training]\nsteps = 'many'"),
                    "run.toml:2: training.steps: expected a whole number, found a string");
    EXPECT_CONTAINS(error_in("[training]\nsteps = 1.5"), "expected a whole number, found a number with a fraction");
    EXPECT_CONTAINS(error_in("[training]\nsteps = 1e300"), "expected a whole number");
    EXPECT_CONTAINS(error_in("[optimizer]\nlr = true"), "expected a number, found true or false");
    EXPECT_CONTAINS(error_in("[checkpoint]\nenable = 1"), "expected true or false, found a whole number");
    EXPECT_CONTAINS(error_in("[job]\ndescription = 2024-01-01"), "expected a string, found a date");
    EXPECT_CONTAINS(error_in("[training]\ndataset = ['a', 1]"), "expected a string or an array of strings, found an array");
    EXPECT_CONTAINS(error_in("[training]\ndataset = {a = 1}"), "found a table");
    EXPECT_CONTAINS(error_with({"--training.steps=many"}), "--training.steps=many: training.steps: expected a whole number");
}

TEST(TrainConfig, AValueOutOfRangeSaysWhatIsAllowed) {
    EXPECT_CONTAINS(error_in("[optimizer]\nlr = -1"), "run.toml:2: optimizer.lr = -1.0: expected above 0");
    struct Case {
        std::string text, expected;
    };
    for (const Case& c : {Case{"optimizer.lr=0", "expected above 0"},
                          {"optimizer.lr=nan", "expected above 0"},
                          {"optimizer.lr=inf", "expected above 0"},
                          {"optimizer.beta1=1", "expected 0 to less than 1"},
                          {"optimizer.name=SGD", "expected AdamW"},
                          {"lr_scheduler.decay_ratio=1.5", "expected 0 to 1"},
                          {"lr_scheduler.decay_type=step", "expected linear, sqrt or cosine"},
                          {"training.steps=0", "expected at least 1"},
                          {"training.seed=9223372036854775807", "expected at least 0, at most 2^53"},
                          {"training.seq_len=99999999", "expected 1 to 16777216"},
                          {"training.precision=int8", "expected auto, fp32, bf16 or fp16"},
                          {"model.flavor=7B", "expected debugmodel, 500M, 1B, 4B, 12B, 31B or \"\""},
                          {"quantization.target_bit_width=5", "expected 1, 2, 3, 4 or 8"},
                          {"quantization.quantizer=k-means",
                           "expected none, nonlinear, sym_int, ternary, binary, bitnet158, int_asym, nf or onebit"},
                          {"quantization.block_dim_2=-64", "expected 0 to 16777216"}}) {
        EXPECT_CONTAINS(error_with({"--" + c.text}), c.expected);
    }
}

TEST(TrainConfig, EveryNumberIsCheckedAtBothEnds) {
    TrainConfig config = load_with({});
    for (const ConfigKey& key : config_keys(config)) {
        if (!std::holds_alternative<int64_t*>(key.value) && !std::holds_alternative<double*>(key.value)) continue;
        for (const char* value : {"-1", "1e18"}) {
            EXPECT_CONTAINS(error_with({fmt::format("--{}={}", key.full_name(), value)}), "expected");
        }
    }
}

TEST(TrainConfig, ContradictorySettingsAreNamed) {
    EXPECT_CONTAINS(error_with({"--training.local_batch_size=4", "--training.global_batch_size=6"}),
                    "training.global_batch_size = 6 is no multiple of training.local_batch_size = 4");
    for (std::string quantizer : {"ternary", "binary"}) {
        std::string message = error_with({"--quantization.quantizer=" + quantizer, "--quantization.relative_scale=absmax"});
        EXPECT_CONTAINS(message, "[quantization]");
        EXPECT_CONTAINS(message, "needs scale absmean, not absmax");
    }
    EXPECT_CONTAINS(error_with({"--quantization.quantizer=sym_int", "--quantization.target_bit_width=1"}), "sym_int");
    EXPECT_CONTAINS(error_with({"--validation.enable=true"}), "validation.dataset is missing");
    EXPECT_CONTAINS(error_with({"--training.dataset="}), "training.dataset is missing");
    EXPECT_CONTAINS(error_with({"--model.tokenizer_path="}), "model.tokenizer_path is missing");
    EXPECT_CONTAINS(error_with({"--job.dump_folder="}), "job.dump_folder is empty");
    EXPECT_CONTAINS(error_with({"--checkpoint.folder="}), "checkpoint.folder is empty");
    TrainConfig changed = load_with({});
    changed.training.steps = -1;
    EXPECT_CONTAINS(error_of([&] { validate(changed, "here"); }), "here: training.steps = -1: expected at least 1");
}

TEST(TrainConfig, AStartingModelBringsItsTokenizer) {
    TrainConfig c = load_with({"--model.tokenizer_path=", "--checkpoint.initial_load_path=some/model"});
    EXPECT_EQ(c.tokenizer_path(), std::filesystem::path("some/model"));
    EXPECT_EQ(load_with({"--checkpoint.initial_load_path=some/model"}).tokenizer_path(), std::filesystem::path("tok"));
}

TEST(TrainConfig, AFileThatIsMissingOrNoTomlIsAnErrorWithItsPlace) {
    EXPECT_CONTAINS(error_of([] { load_train_config("no/such.toml"); }), "no/such.toml: there is no such configuration file");
    EXPECT_CONTAINS(error_of([] { load_train_config(std::filesystem::temp_directory_path()); }),
                    std::filesystem::temp_directory_path().string());
    EXPECT_CONTAINS(error_in("[job]\ndescription = \n"), "run.toml:2:");
    EXPECT_CONTAINS(error_in("[job]\ndescription = 'a'\ndescription = 'b'\n"), "run.toml:3:");
    EXPECT_CONTAINS(error_in("[job]\ndescription = \"\xff\xfe\"\n"), "run.toml:2:");
    EXPECT_CONTAINS(error_in("[job]\ndescription = \"a\\u0000b\"\n"), "NUL");
    EXPECT_CONTAINS(error_with({"--job.description=\xff"}), "UTF-8");
}

TEST(TrainConfig, HostileFilesEndInAnError) {
    std::string dots = "a", arrays = std::string(100000, '['), many;
    for (int i = 0; i < 100000; ++i) dots += ".a";
    EXPECT_CONTAINS(error_in(dots + " = 1"), "dots");
    EXPECT_CONTAINS(error_in("[" + dots + "]"), "dots");
    EXPECT_CONTAINS(error_in("a = " + arrays), "run.toml:1:");
    for (std::string header : {"[&", "[[[job]]]", "[[=", "[\x1e", "[.job]"}) EXPECT_CONTAINS(error_in(header), "run.toml:");
    EXPECT_CONTAINS(error_in(std::string(1 << 20, '\n')), "run.toml");
    for (int i = 0; i < 20000; ++i) many += fmt::format("k{} = 1\n", i);
    EXPECT_CONTAINS(error_in("[job]\n" + many), "unknown key");
    // About as deep as the limits on dots and on nested values let it be.
    std::string deep = "1", path = "a";
    for (int i = 0; i < 190; ++i) path += ".a";
    for (int i = 0; i < 7; ++i) deep = "[\n{" + path + " = " + deep + "}\n]";
    EXPECT_CONTAINS(error_in("[training]\ndataset = " + deep), "found an array");
    EXPECT_THROW(load_with({"--" + std::string(100000, 'x') + ".y=1"}), UsageError);
    EXPECT_THROW(load_with({"--training.steps=" + arrays}), Error);
    EXPECT_THROW(load_with({"--training.steps=" + dots}), Error);
}

// A file with random bytes replaced is read, or refused with an Error; nothing else happens.
TEST(TrainConfig, DamagedFilesAreReadOrRefused) {
    const std::string good = to_toml(load_with({}));
    ScratchFolder folder;
    std::mt19937 random(1);
    int refused = 0;
    for (int i = 0; i < 1000; ++i) {
        std::string text = good.substr(0, i % 4 == 0 ? random() % good.size() : good.size());
        for (int k = 0; k <= i % 3 && !text.empty(); ++k) {
            text[random() % text.size()] = char(i % 2 == 0 ? random() : ' ' + random() % 95);
        }
        try {
            load_train_config(folder.write("run.toml", text));
        } catch (const Error&) {
            ++refused;
        }
    }
    EXPECT_GT(refused, 500);
    EXPECT_LT(refused, 1000);
}

TEST(TrainConfig, TheWrittenConfigurationReadsBackEqual) {
    TrainConfig c;
    // Every value differs from its default, and strings hold what has to be escaped.
    for (const ConfigKey& key : config_keys(c)) {
        if (auto flag = std::get_if<bool*>(&key.value)) **flag = !**flag;
        if (auto whole = std::get_if<int64_t*>(&key.value)) **whole += 1;
        if (auto number = std::get_if<double*>(&key.value)) **number = **number / 3 + 0.1;
        if (auto text = std::get_if<std::string*>(&key.value)) {
            **text =
                key.allowed.choices.empty() ? "a \"b\" \\ \n\t\x7f\x01 \xc3\xa9 " + key.full_name() : key.allowed.choices.front();
        }
        if (auto texts = std::get_if<std::vector<std::string>*>(&key.value)) **texts = {"x", "y\"", ""};
        if (auto numbers = std::get_if<std::vector<int64_t>*>(&key.value)) **numbers = {7, 1, 9007199254740992};
        if (auto sets = std::get_if<std::vector<DatasetConfig>*>(&key.value)) **sets = {{{"a", "b\""}, 0.1}, {{"c"}, 2}};
    }
    c.training.global_batch_size = 2 * c.training.local_batch_size;
    c.quantization.quantizer = "nonlinear";
    c.training.dataset_type = "sft";
    c.checkpoint.keep_best = false;    // it needs checkpoints, which are off here
    c.distillation.hidden_weight = 0;  // does not go with a cache
    for (bool several : {true, false}) {
        TrainConfig one = c;
        several ? one.training.dataset.clear() : one.training.datasets.clear();
        EXPECT_EQ(load(to_toml(one)), one) << to_toml(one);
    }
    EXPECT_EQ(load(to_toml(load_with({}))), load_with({}));
}

TEST(TrainConfig, DatasetsAreTablesOrOneLine) {
    const std::string base = "[model]\ntokenizer_path = \"t\"\n";
    const std::vector<DatasetConfig> expected{{{"stories"}, 3}, {{"a.txt", "b.txt"}, 0.5}};
    TrainConfig c = load(base +
                         "[[training.datasets]]\npath = \"stories\"\nweight = 3\n"
                         "[[training.datasets]]\npath = [\"a.txt\", \"b.txt\"]\nweight = 0.5\n");
    EXPECT_EQ(c.training.datasets, expected);
    EXPECT_EQ(c.training_datasets(), expected);
    c = load(base + "[training]\ndatasets = [{path = \"stories\", weight = 3}, {path = [\"a.txt\", \"b.txt\"], weight = 0.5}]\n");
    EXPECT_EQ(c.training.datasets, expected);
    c = load_with({"--training.dataset=", "--training.datasets=[{path = \"x\"}]", "--profiling.steps=[3, 4]"});
    EXPECT_EQ(c.training.datasets, (std::vector<DatasetConfig>{{{"x"}, 1}}));
    EXPECT_EQ(c.profiling.steps, (std::vector<int64_t>{3, 4}));
    EXPECT_EQ(load_with({"--profiling.steps=7"}).profiling.steps, std::vector<int64_t>{7});

    for (const char* value : {"3", "[3]", "[{pth = \"a\"}]", "[{path = 3}]", "[{path = \"a\", weight = \"b\"}]"})
        EXPECT_CONTAINS(error_with({std::string("--training.datasets=") + value}), "expected an array of tables {path, weight}");
    for (const char* value : {"[{weight = 3}]", "[{path = \"a\", weight = 0}]", "[{path = \"a\", weight = nan}]"})
        EXPECT_CONTAINS(error_with({std::string("--training.datasets=") + value}),
                        "expected each with a path and a weight above 0");
    EXPECT_CONTAINS(error_with({"--training.datasets=[{path = \"x\"}]"}), "are both given");
    EXPECT_CONTAINS(error_with({"--profiling.steps=[0]"}), "at least 1");
}

TEST(TrainConfig, TheTableHoldsEveryKeyOnceAndValidDefaults) {
    TrainConfig config;
    std::set<std::string> names;
    std::vector<ConfigKey> keys = config_keys(config);
    for (const ConfigKey& key : keys) {
        EXPECT_TRUE(names.insert(key.full_name()).second) << key.full_name();
        EXPECT_FALSE(key.help.empty()) << key.full_name();
        EXPECT_NO_THROW(check_allowed(key, "default"));
    }
    // Sections stand together, each once.
    std::set<std::string_view> sections;
    for (size_t i = 0; i < keys.size(); ++i) {
        if (i > 0 && keys[i].section == keys[i - 1].section) continue;
        EXPECT_TRUE(sections.insert(keys[i].section).second) << keys[i].section;
    }
    EXPECT_EQ(sections.size(), 14u);
}

TEST(TrainConfig, HelpNamesEveryKeyWithDefaultAndChoices) {
    TrainConfig config;
    std::string help = train_config_help();
    for (const ConfigKey& key : config_keys(config)) EXPECT_CONTAINS(help, fmt::format("\n  {} = {}", key.name, value_text(key)));
    EXPECT_CONTAINS(help, "[lr_scheduler]\n");
    EXPECT_CONTAINS(help, "(linear, sqrt or cosine)");
    EXPECT_CONTAINS(help, "(a number, above 0)");
}

TEST(Flavors, HaveThePublishedWidthsAndSizes) {
    struct Expected {
        const char* flavor;
        int64_t intermediate_size, head_dim;
        double parameters;
    };
    // Sizes by hand: layers (2 d^2 + 2 d kv_heads head_dim + 3 d ffn + 2 d) + d + 2 * 128256 d.
    for (const Expected& e : {Expected{"debugmodel", 768, 16, 70782208},
                              {"500M", 6144, 128, 818714112},
                              {"1B", 7168, 128, 1431373824},
                              {"4B", 11264, 128, 3883551744},
                              {"12B", 14336, 128, 11520053248},
                              {"31B", 21504, 128, 30643279872}}) {
        LlamaConfig c = model_config(load_with({std::string("--model.flavor=") + e.flavor}), 128256);
        EXPECT_EQ(c.intermediate_size, e.intermediate_size) << e.flavor;
        EXPECT_EQ(c.head_dim, e.head_dim) << e.flavor;
        EXPECT_EQ(double(c.parameters()), e.parameters) << e.flavor;
        EXPECT_EQ(c.vocab_size, 128256);
        EXPECT_EQ(c.rope_theta, 500000);
        EXPECT_EQ(c.rms_norm_eps, 1e-5);
        EXPECT_FALSE(c.tie_word_embeddings);
        EXPECT_EQ(c.rope_scaling, RopeScaling{});
        EXPECT_EQ(c.max_position_embeddings, 8192);
    }
}

TEST(Flavors, ExplicitDimensionsOverrideSingleValues) {
    LlamaConfig c =
        model_config(load_with({"--model.flavor=debugmodel", "--model.num_hidden_layers=2", "--model.head_dim=32",
                                "--model.rope_theta=10000", "--model.rms_norm_eps=1e-6", "--model.rope_scaling=none",
                                "--model.tie_word_embeddings=true", "--model.vocab_size=600", "--training.seq_len=16384"}),
                     512);
    EXPECT_EQ(c.hidden_size, 256);
    EXPECT_EQ(c.layers, 2);
    EXPECT_EQ(c.head_dim, 32);
    EXPECT_EQ(c.rope_theta, 10000);
    EXPECT_EQ(c.rms_norm_eps, 1e-6);
    EXPECT_FALSE(c.rope_scaling);
    EXPECT_TRUE(c.tie_word_embeddings);
    EXPECT_EQ(c.vocab_size, 600);
    EXPECT_EQ(c.max_position_embeddings, 16384);
}

const std::vector<std::string> small = {"--model.hidden_size=64", "--model.intermediate_size=96", "--model.num_hidden_layers=2",
                                        "--model.num_attention_heads=4"};

TEST(Flavors, DimensionsAloneMakeAModel) {
    LlamaConfig c = model_config(load_with(small), 100);
    EXPECT_EQ(c.kv_heads, 4);
    EXPECT_EQ(c.head_dim, 16);
    EXPECT_EQ(c.vocab_size, 100);
    EXPECT_FALSE(c.rope_scaling);
    EXPECT_EQ(c.rope_theta, 500000);
}

TEST(Flavors, DimensionsThatAreMissingOrDoNotFitAreNamed) {
    auto error = [](std::vector<std::string> overrides, bool with_small = true) {
        if (with_small) overrides.insert(overrides.begin(), small.begin(), small.end());
        TrainConfig config = load_with(overrides);
        return error_of([&] { model_config(config, 100); });
    };
    EXPECT_CONTAINS(error({}, false), "model.hidden_size is missing: name a flavor (debugmodel, 500M, 1B, 4B, 12B, 31B)");
    EXPECT_CONTAINS(error({"--model.intermediate_size=0"}), "model.intermediate_size is missing");
    EXPECT_CONTAINS(error({"--model.hidden_size=66"}), "no multiple of num_attention_heads = 4");
    EXPECT_CONTAINS(error({"--model.num_key_value_heads=3"}), "num_key_value_heads 3");
    EXPECT_CONTAINS(error({"--model.vocab_size=99"}), "model.vocab_size = 99, but the tokenizer in tok has 100 ids");
    TrainConfig config = load_with({});
    config.model.flavor = "2B";
    EXPECT_CONTAINS(error_of([&] { model_config(config, 100); }),
                    "there is no flavor '2B'; known are debugmodel, 500M, 1B, 4B, 12B, 31B");
}

TEST(Flavors, AStartingModelBringsItsArchitecture) {
    LlamaConfig model = model_config(load_with(small), 100);
    ScratchFolder folder;
    auto file = folder.write("run.toml", needed);
    model.eos_token_ids = {2};
    folder.write("config.json", to_json(model));
    const std::string start = "--checkpoint.initial_load_path=" + folder.path().string();
    EXPECT_EQ(model_config(load_train_config(file, std::vector{start}), 100), model);
    EXPECT_EQ(model_config(load_train_config(file, std::vector<std::string>{start, "--model.hidden_size=64"}), 100), model);
    auto error = [&](const std::string& text) {
        TrainConfig config = load_train_config(file, std::vector{start, text});
        return error_of([&] { model_config(config, 100); });
    };
    EXPECT_CONTAINS(error("--model.hidden_size=128"), "model.hidden_size: 128 is asked for, but the model in");
    EXPECT_CONTAINS(error("--model.flavor=500M"), "1536 is asked for");
    EXPECT_CONTAINS(error("--model.rope_scaling=llama3"), "model.rope_scaling is not that of the model");
    EXPECT_CONTAINS(error("--model.tie_word_embeddings=true"), "model.tie_word_embeddings");
    EXPECT_CONTAINS(error_of([&] { model_config(load_train_config(file, std::vector{start}), 101); }), "has 101 ids");
}

TEST(ReadyConfigs, LoadAndMakeAModelWhoseLayersTheBlocksDivide) {
    std::set<std::string> flavors_seen;
    int files = 0;
    for (const auto& entry : std::filesystem::directory_iterator(test::source_folder() / "assets/configs")) {
        ASSERT_EQ(entry.path().extension(), ".toml") << entry.path();
        SCOPED_TRACE(entry.path().filename().string());
        ++files;
        TrainConfig c = load_train_config(entry.path());
        EXPECT_FALSE(c.job.description.empty());
        if (c.fine_tunes()) continue;  // begins with a model that somebody names
        flavors_seen.insert(c.model.flavor);
        if (!c.distillation.teacher.empty()) {  // from a trained model, of any shape
            c.checkpoint.initial_load_path.clear();
            c.model.flavor = "1B";
        }
        LlamaConfig model = model_config(c, 128256);
        QuantizerConfig q = quantizer_config(c);
        EXPECT_NE(q.kind, QuantizerKind::none);
        EXPECT_NO_THROW(block_layout(q, model.q_dim(), model.hidden_size, "q_proj"));
        EXPECT_NO_THROW(block_layout(q, model.kv_dim(), model.hidden_size, "k_proj"));
        EXPECT_NO_THROW(block_layout(q, model.hidden_size, model.q_dim(), "o_proj"));
        EXPECT_NO_THROW(block_layout(q, model.hidden_size, model.intermediate_size, "down_proj"));
        EXPECT_LT(c.quantization.qat_start_step, c.training.steps);
    }
    EXPECT_GE(files, 8);
    for (const Flavor& flavor : flavors()) EXPECT_TRUE(flavors_seen.count(std::string(flavor.name))) << flavor.name;
}

}  // namespace
}  // namespace vkqat
