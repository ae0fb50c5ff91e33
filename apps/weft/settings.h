// All settings of a run in one list, which serves the command line, config.json, the comparison of two runs
// and the check of their values.
#pragma once

#include <limits>

#include "weft/apps/weft/command.h"
#include "weft/apps/weft/config.h"
#include "weft/apps/weft/losses.h"
#include "weft/apps/weft/names.h"
#include "weft/layers/models.h"

namespace weft::app {

/// The numbers from `low` to `high`; an open end is not one of them.
struct Limits {
  double low, high = std::numeric_limits<double>::infinity();
  bool open_low = false, open_high = false;
};
constexpr Limits kBelowOne{.low = 0, .high = 1, .open_high = true};

/// Calls visit(key, member, help) for every setting, and visit(key, member, help, allowed) for those that may
/// only be some numbers (Limits) or names (a function that lists them); what more there is to a value,
/// validate() knows. The key is the name in config.json; the flag is "--" and the key with dashes for
/// underscores.
template <class Config, class Visit>
void visit_settings(Config& c, Visit&& visit) {
  visit("data", c.data,
        "folder with train/CLASS/* and val/CLASS/*, or with MNIST's or CIFAR-10's files, a .tgz of one, or "
        "the name of a fetched set");
  visit("model", c.model, "model; --list-models names them", model_names);
  visit("activation", c.activation, "activation function [the model's own]", activation_names);
  visit("init", c.init,
        "start from the weights of a model.safetensors, or of the run in a folder, of the same --model; a "
        "last layer of other classes stays random");
  visit("sa", c.sa, "self-attention in the first stage, for models that have a place for it");
  visit("sym", c.sym, "symmetric self-attention (implies --sa)");
  visit("size", c.size, "height and width of the images in pixels", Limits{8, kMostSize});
  visit("valid_resize", c.valid_resize,
        "validation: resize the short side to this, then crop the centre; 0 means --size");
  visit("epochs", c.epochs, "times that the training images are gone through", Limits{1, 1'000'000});
  visit("batch_size", c.batch_size, "images in a step; an incomplete last batch is dropped",
        Limits{1, 65536});
  visit("optimizer", c.optimizer, "optimizer", optim::optimizer_names);
  visit("lr", c.lr, "learning rate", Limits{.low = 0, .open_low = true});
  visit("mom", c.mom, "momentum, beta 1", kBelowOne);
  visit("sqrmom", c.sqrmom, "beta 2", kBelowOne);
  visit("eps", c.eps, "eps of the optimizer", Limits{0, 1});
  visit("wd", c.wd, "weight decay, not on biases and norm layers", Limits{0});
  visit("schedule", c.schedule,
        joined(optim::schedule_names(), "|") +
            "; one-cycle: from lr/10 over 30 % of the steps to lr, then down to lr/1e5, momentum .95 to .85 "
            "and back in the place of --mom",
        optim::schedule_names);
  visit("anneal_start", c.anneal_start, "flat-cosine: share of the steps before the rate falls",
        Limits{0, 1});
  visit("loss", c.loss, "cross-entropy, bce (a yes or no for each class) or focal; of training alone",
        loss_names);
  visit("focal_gamma", c.focal_gamma, "focal: how much examples count less that are right already",
        Limits{0, 100});
  visit("label_smoothing", c.label_smoothing, "label smoothing of the training loss", kBelowOne);
  visit("min_scale", c.min_scale, "smallest share of an image's area that a random crop keeps",
        Limits{.low = 0, .high = 1, .open_low = true});
  visit("pad", c.pad,
        "crop at a random place after adding so many pixels on each side, in the place of --min-scale; 0 "
        "means none");
  visit("pad_mode", c.pad_mode, "what is added: constant (black) or reflect");
  visit("flip", c.flip, "mirror a training image with probability 1/2");
  visit("jitter", c.jitter,
        "B,C,S,H: change brightness, contrast, saturation and hue at random, as 0.4,0.4,0.4,0.1");
  visit("erase", c.erase, "probability that a random box of a training image is erased", Limits{0, 1});
  visit("mixup", c.mixup, "mix pairs of images with weights from Beta(A, A); 0 means none", Limits{0, 100});
  visit("cutmix", c.cutmix,
        "put boxes of images into others, shares from Beta(A, A); with --mixup either, by batch",
        Limits{0, 100});
  visit("runs", c.runs, "repeat with seeds SEED, SEED + 1, ..., each in a sub-folder run-K",
        Limits{1, 10'000});
  visit("seed", c.seed, "seed of everything random");
  visit("device", c.device, "cpu, or cuda[:i] for the NVIDIA GPU of that number");
  visit("precision", c.precision,
        "fp32; bf16: on the CPU products only, on a GPU all but the weights; fp16, on a GPU, with loss "
        "scaling");
  visit("noisy_labels", c.noisy_labels, "CSV:COLUMN, training labels from that column of that file");
  visit("recompute", c.recompute, "save memory: compute activations again in the backward pass");
  visit("strict", c.strict,
        "refuse broken images, and files that are none, instead of skipping and counting them");
  visit("keep_best", c.keep_best,
        "keep the weights of the epoch with the best validation accuracy, too, as best.safetensors");
  visit("exact", c.exact, "convolve by the plain sums: without Winograd, and without TF32 on a GPU");
  visit("deterministic", c.deterministic, "on a GPU: the same bits in each run (always so on the CPU)");
  visit("tune", c.tune, "measure the fastest convolution algorithm for each shape, once on this machine");
}

}  // namespace weft::app
