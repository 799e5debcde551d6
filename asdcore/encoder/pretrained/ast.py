"""AST, the Audio Spectrogram Transformer (Gong et al. 2021, arXiv:2104.01778): 87 million weights.

The model and its spectrogram are those of Hugging Face transformers (the extra ``asd[pretrained]``), which are checked
against https://github.com/YuanGongND/ast (BSD 3-Clause); published as ``MIT/ast-finetuned-audioset-10-10-0.4593`` (BSD
3-Clause).
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from asdcore.encoder.adapters import Layers
from asdcore.encoder.pretrained.base import HOP_LENGTH, SAMPLE_RATE, PretrainedEncoder
from asdcore.encoder.pretrained.checkpoint import PublishedModel
from asdcore.encoder.pretrained.front_ends import KALDI_WINDOW
from asdcore.errors import AsdError

_EXTRACTOR = "preprocessor_config.json"
_NEEDS_TRANSFORMERS = "the encoder ast needs Hugging Face transformers: pip install 'asd[pretrained]'"


class AST(PretrainedEncoder):
    """What AST's classifier sees: the mean of the class token and the distillation token.

    A clip of more than 10.24 s is cut into windows of that length; each counts as much as it is long.

    Args:
        source: see `PretrainedEncoder`; the folder needs ``preprocessor_config.json``, too.
    """

    model_type = "audio-spectrogram-transformer"
    also_read = (_EXTRACTOR,)
    shortest = KALDI_WINDOW
    adaptable: ClassVar[Layers] = {"q_proj": (True,), "v_proj": (True,)}

    @classmethod
    def _published(cls, source: Path | None) -> PublishedModel:
        if find_spec("transformers") is None:
            raise AsdError(_NEEDS_TRANSFORMERS)
        published = super()._published(source)
        if not (published.folder / _EXTRACTOR).is_file():
            raise AsdError(f"{published.folder}: has no {_EXTRACTOR}: get it from where the model is published")
        return published

    def read(self, published: PublishedModel) -> nn.Module:
        """See `PretrainedEncoder.read`."""
        try:
            from transformers import ASTFeatureExtractor, ASTModel
        except ImportError as error:
            raise AsdError(_NEEDS_TRANSFORMERS) from error
        folder = published.folder
        try:
            with _quiet_transformers():
                self._extractor: Any = ASTFeatureExtractor.from_pretrained(folder, local_files_only=True)
                model, info = ASTModel.from_pretrained(
                    folder,
                    local_files_only=True,
                    use_safetensors=True,
                    trust_remote_code=False,
                    output_loading_info=True,
                    dtype=torch.float32,
                )
        except (OSError, ValueError, RuntimeError, SafetensorError) as error:
            raise AsdError(f"{folder}: cannot be read as an AST model ({error}): get it again") from error
        if info["missing_keys"]:
            raise AsdError(f"{folder}: another architecture, without the weights {sorted(info['missing_keys'])[:3]}")
        self._frames = int(model.config.max_length)
        if (self._extractor.max_length, self._extractor.sampling_rate) != (self._frames, SAMPLE_RATE):
            raise AsdError(
                f"{folder / _EXTRACTOR}: max_length {self._extractor.max_length} and sampling_rate "
                f"{self._extractor.sampling_rate} are not those of the model, {self._frames} and {SAMPLE_RATE}"
            )
        loaded: nn.Module = model
        return loaded

    def embedding(self, waveform: NDArray[np.float32]) -> Tensor:
        """See `PretrainedEncoder.embedding`."""
        frames = 1 + (len(waveform) - KALDI_WINDOW) // HOP_LENGTH
        total = torch.zeros(())
        for first in range(0, frames, self._frames):
            last = min(first + self._frames, frames)
            samples = waveform[first * HOP_LENGTH : (last - 1) * HOP_LENGTH + KALDI_WINDOW]
            spectrogram = self._extractor(samples, sampling_rate=SAMPLE_RATE, return_tensors="np")["input_values"]
            pooled: Tensor = self.model(self.on_device(spectrogram)).pooler_output[0].cpu()
            total = total + pooled * ((last - first) / frames)
        return total


@contextmanager
def _quiet_transformers() -> Iterator[None]:
    """Without the progress bar, the list of weights that are left out (the classifier's), and a warning that the
    lowest bands of AST's spectrogram are empty, which they are.
    """
    from transformers.utils import logging

    verbosity, bar = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "At least one mel filter", UserWarning)
            yield
    finally:
        logging.set_verbosity(verbosity)
        if bar:
            logging.enable_progress_bar()
