# SPDX-License-Identifier: Apache-2.0
"""The peers' int8 files: ONNX Runtime's static quantization (unsigned activations, signed weights per channel) over real
calibration photographs, in the form asked for. OpenVINO is fed the same files.
"""
import os

import onnx
from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process

import networks


class Photographs(CalibrationDataReader):
    def __init__(self, tensors):
        self.rest = iter(tensors)

    def get_next(self):
        tensor = next(self.rest, None)
        return None if tensor is None else {"data": tensor}


def quantize(network, form="qdq", path=None, **extra):
    """Writes <form>.onnx beside float.onnx and gives its path."""
    path = path or network.path(form + ".onnx")
    if os.path.exists(path):
        return path
    clean = network.path("clean.onnx")
    if not os.path.exists(clean):
        quant_pre_process(network.path("float.onnx"), clean, skip_symbolic_shape=True)
    partial = network.path("partial.onnx")
    quantize_static(clean, partial, Photographs(networks.calibration_tensors(network)),
                    quant_format=QuantFormat.QDQ if form.startswith("qdq") else QuantFormat.QOperator, per_channel=True,
                    activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, calibrate_method=CalibrationMethod.MinMax, **extra)
    onnx.load(partial)
    os.rename(partial, path)
    return path
