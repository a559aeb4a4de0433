"""Makes the Keras files beside it, and what Keras computes from them. Run where tf-keras (2.21, the Keras 2 line), TensorFlow and keras (3.15) are installed.

keras2.h5, keras2.keras     as Keras 2.14 and newer writes them
keras213.keras              as Keras 2.13: a group `_layer_checkpoint_dependencies`, which counts layers with weights twice
keras22.h5                  as Keras 2.1 wrote: a Sequential's configuration is a bare list, and arguments that came later are not there
cudnn.h5                    with CuDNNLSTM and CuDNNGRU, as models trained on a GPU had before TensorFlow 2
keras2_weights.h5           weights alone, of keras2
keras3.keras                of Keras 3
"""

from __future__ import annotations

import json
import os
import shutil
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

os.environ |= {"TF_CPP_MIN_LOG_LEVEL": "3", "KERAS_BACKEND": "tensorflow"}

import h5py
import keras
import numpy as np
import tf_keras
from tf_keras.src.saving import saving_lib
from tf_keras.src.saving.legacy import hdf5_format
from tf_keras.src.utils import generic_utils

FOLDER = Path(__file__).parent
rng = np.random.default_rng(4)
expected: dict[str, np.ndarray] = {}
TOKENS = rng.integers(0, 6, (3, 7))
NUMBERS = rng.normal(size=(3, 7, 3)).astype("float32")


def randomized(model: Any) -> Any:
    model.set_weights([rng.uniform(0.5, 1.5, w.shape) if w.ndim == 1 and "variance" in v.name else rng.normal(0, 0.5, w.shape) for v, w in zip(model.weights, model.get_weights(), strict=True)])
    return model


def functional(k: Any) -> Any:
    """Masks, old gates, states from one layer to another, a stack of cells, a nested model used twice."""
    tokens, numbers = k.Input((None,), name="tokens", dtype="int32"), k.Input((None, 3), name="numbers")
    embedded = k.layers.Embedding(6, 4, mask_zero=True)(tokens)
    _, h, c = k.layers.LSTM(4, return_state=True, recurrent_activation="hard_sigmoid")(embedded)
    decoded = k.layers.LSTM(4, return_sequences=True)(numbers, initial_state=[h, c])
    both = k.layers.Bidirectional(k.layers.GRU(3, reset_after=False, return_sequences=True), merge_mode="sum")(decoded)
    stacked = k.layers.RNN([k.layers.LSTMCell(3), k.layers.GRUCell(4)])(both)
    inner = k.Sequential([k.layers.Dense(4), k.layers.BatchNormalization()], name="inner")
    return randomized(k.Model([tokens, numbers], [inner(inner(stacked)), k.layers.TimeDistributed(k.layers.Dense(2))(both)]))


def two_lstms(k: Any) -> Any:
    return randomized(k.Sequential([k.layers.LSTM(4, return_sequences=True, input_shape=(None, 3)), k.layers.Dropout(0.1), k.layers.LSTM(3), k.layers.Dense(2)]))


def keep(name: str, outputs: Any) -> None:
    for i, one in enumerate(outputs if isinstance(outputs, list) else [outputs]):
        expected[f"{name}_{i}"] = np.asarray(one, "float32")


def with_config(name: str, change: Any) -> None:
    """Rewrite the configuration in an .h5 file."""
    with h5py.File(FOLDER / name, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        change(config)
        del file.attrs["model_config"]
        file.attrs["model_config"] = json.dumps(config)


def of_keras_2() -> None:
    model = functional(tf_keras)
    model.save(FOLDER / "keras2.h5", save_format="h5")
    model.save(FOLDER / "keras2.keras")
    hdf5_format.save_weights_to_hdf5_group(h5py.File(FOLDER / "keras2_weights.h5", "w"), model)
    keep("keras2", model.predict([TOKENS, NUMBERS], verbose=0))
    model = two_lstms(tf_keras)
    keep("keras213", model.predict(NUMBERS, verbose=0))
    kept, walk, container = saving_lib.ATTR_SKIPLIST, saving_lib._walk_trackable, saving_lib._save_container_state
    saving_lib.ATTR_SKIPLIST = kept - {"_layer_checkpoint_dependencies"}
    saving_lib._walk_trackable = lambda one: reversed(list(walk(one)))  # 2.13 went through attributes in rising order
    saving_lib._save_container_state = container_of_213
    model.save(FOLDER / "keras213.keras")
    saving_lib.ATTR_SKIPLIST, saving_lib._walk_trackable, saving_lib._save_container_state = kept, walk, container


def container_of_213(container: Any, weights_store: Any, assets_store: Any, inner_path: str, visited_trackables: Any) -> None:
    """As of today, but what has been saved already is counted again."""
    counts: Counter[str] = Counter()
    for one in container.values() if isinstance(container, dict) else container:
        if saving_lib._is_keras_trackable(one):
            name = generic_utils.to_snake_case(type(one).__name__)
            place = f"{inner_path}/{name}_{counts[name]}" if counts[name] else f"{inner_path}/{name}"
            saving_lib._save_state(one, weights_store, assets_store, place, visited_trackables)
            counts[name] += 1


def of_keras_22() -> None:
    model = randomized(tf_keras.Sequential([tf_keras.layers.GRU(4, reset_after=False, recurrent_activation="hard_sigmoid", return_sequences=True, input_shape=(None, 3)), tf_keras.layers.LSTM(3, recurrent_activation="hard_sigmoid", activation="hard_sigmoid"), tf_keras.layers.Dense(2)]))
    keep("keras22", model.predict(NUMBERS, verbose=0))
    model.save(FOLDER / "keras22.h5", save_format="h5")

    def older(config: dict[str, Any]) -> None:
        config["config"] = [layer for layer in config["config"]["layers"] if layer["class_name"] != "InputLayer"]
        for layer in config["config"]:
            for name in ("reset_after", "time_major", "recurrent_activation", "dtype"):
                layer["config"].pop(name, None)
        config["config"][0]["config"]["batch_input_shape"] = [None, None, 3]

    with_config("keras22.h5", older)
    with h5py.File(FOLDER / "keras22.h5", "r+") as file:
        file.attrs["keras_version"] = "2.1.6"


def of_cudnn() -> None:
    """The layers run on GPUs alone; Keras 2 says how their weights become those of LSTM and GRU."""
    model = tf_keras.Sequential([tf_keras.layers.LSTM(4, return_sequences=True, input_shape=(None, 3)), tf_keras.layers.Bidirectional(tf_keras.layers.GRU(3)), tf_keras.layers.Dense(2)])
    old = [rng.normal(0, 0.5, shape).astype("float32") for shape in [(3, 16), (4, 16), (32,), *[(4, 9), (3, 9), (18,)] * 2, (6, 2), (2,)]]
    converted = hdf5_format.preprocess_weights_for_loading(model.layers[0], old[:3]) + hdf5_format.preprocess_weights_for_loading(model.layers[1], old[3:9]) + old[9:]
    model.set_weights(converted)
    keep("cudnn", model.predict(NUMBERS, verbose=0))
    model.save(FOLDER / "cudnn.h5", save_format="h5")

    def renamed(config: dict[str, Any]) -> None:
        for kind in ("LSTM", "GRU"):
            for layer in config["config"]["layers"]:
                for one in (layer, layer["config"].get("layer"), layer["config"].get("backward_layer")):
                    if one and one["class_name"] == kind:
                        one["class_name"] = f"CuDNN{kind}"
                        for name in ("activation", "recurrent_activation", "use_bias", "dropout", "recurrent_dropout", "implementation", "reset_after", "unroll"):
                            one["config"].pop(name, None)

    with_config("cudnn.h5", renamed)
    with h5py.File(FOLDER / "cudnn.h5", "r+") as file:
        groups = file["model_weights"]
        names = [f"{group}/{name}" for group in groups.attrs["layer_names"] for name in groups[group].attrs["weight_names"]]
        for name, value in zip(names, old, strict=True):
            del groups[name]
            groups[name] = value


def of_keras_3() -> None:
    model = functional(keras)
    model.save(FOLDER / "keras3.keras")
    keep("keras3", model.predict([TOKENS, NUMBERS], verbose=0))


def squeeze() -> None:
    """Compress the archives, which changes nothing for their readers."""
    for path in FOLDER.glob("*.keras"):
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in members.items():
                archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content, zipfile.ZIP_DEFLATED)


if __name__ == "__main__":
    of_keras_2()
    of_keras_22()
    of_cudnn()
    of_keras_3()
    squeeze()
    np.savez(FOLDER / "keras_expected.npz", tokens=TOKENS, numbers=NUMBERS, **expected)
    shutil.rmtree(FOLDER / "__pycache__", ignore_errors=True)
