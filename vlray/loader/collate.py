"""Construction of batches from examples and the regions of their images.

Shapes: B: examples; I: images per example (2 for NLVR2); C: choices per example.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from vlray.cluster.gpus import usable_gpus
from vlray.config.loader import LoaderSection, PretrainingSection
from vlray.loader import pretraining
from vlray.loader.boxes import encode_boxes
from vlray.loader.inputs import ModelInputs, PhraseTargets, PretrainingTargets
from vlray.loader.phrases import are_grounded, phrases_of
from vlray.loader.pretraining import IGNORED, Texts
from vlray.loader.targets import label_ids_of, soft_targets
from vlray.loader.text import Tokenizer, Tokens
from vlray.tasks.answers import SoftScore
from vlray.tasks.example import Choices, Example
from vlray.tasks.labels import LabelSpace

if TYPE_CHECKING:
    from vlray.regions.store import RegionStore


class Collate:
    """Converts examples and rows of a region store into `ModelInputs`. Instances can be pickled."""

    def __init__(self, options: LoaderSection | None = None) -> None:
        """Load the vocabulary.

        Args:
            options: Loader options. None: the defaults.

        Raises:
            ValueError: The tokenizer or the template is not valid; see `Tokenizer`.
        """
        self.options = options or LoaderSection()
        self.tokenizer = Tokenizer(
            self.options.tokenizer,
            self.options.max_tokens,
            self.options.template,
            punctuation=self.options.punctuation,
            fixed_length=self.options.fixed_tokens,
        )

    @property
    def needs_texts(self) -> bool:
        """Whether batches draw further texts from the corpus, so that `Texts` must be passed."""
        masking = self.options.pretraining
        return masking is not None and masking.sentences != "own"

    def __call__(
        self,
        examples: Sequence[Example],
        rows: np.ndarray,
        store: RegionStore,
        label_space: LabelSpace | None,
        rng: np.random.Generator,
        *,
        soft_scores: SoftScore | Sequence[SoftScore] = "exact",
        texts: Texts | None = None,
        corpus_indices: Int64[np.ndarray, B] | None = None,
    ) -> ModelInputs:
        """Build a batch.

        Args:
            examples: At least one example. All must have the same number of images, and either all
                or none must have choices.
            rows: Row of each image in the store, (B,) or (B, I).
            store: Regions of the images.
            label_space: Label space of the targets; None: the batch has no targets.
            rng: Random generator for pretraining.
            soft_scores: Rule that converts answers to targets: one for all examples, or one per
                example.
            texts: Texts of the corpus; required if `needs_texts`.
            corpus_indices: Corpus indices of the examples; required if `needs_texts`.

        Raises:
            ValueError: Only some examples have choices, the number of choices differs, or examples
                have several images in pretraining.
        """
        rows = np.asarray(rows, np.int64).reshape(len(examples), -1)
        visual = self.visual(rows, store)
        goals = None
        if label_space is not None:
            goals = soft_targets(examples, label_space, soft_scores)
        common: dict[str, Any] = {
            "example_ids": tuple(example.example_id for example in examples),
            "image_ids": tuple(example.image_ids for example in examples),
            "about": tuple(example.about for example in examples),
        }
        if self.options.pretraining is None:
            label_ids = label_ids_of(examples, goals)
            common |= visual | self._texts(examples, rows, store, visual["visual_feats"].shape[-2])
            common["targets"] = None if goals is None else self._tensor(goals)
            common["label_ids"] = None if label_ids is None else self._tensor(label_ids)
            return ModelInputs(**common)
        if rows.shape[1] != 1:
            raise ValueError(
                f"pretraining needs one image per example, but example {examples[0].example_id} "
                f"has {rows.shape[1]}; remove its dataset from the corpus"
            )
        common |= self._pretraining(
            examples,
            rows[:, 0],
            store,
            goals,
            rng,
            visual,
            texts,
            corpus_indices,
            self.options.pretraining,
        )
        return ModelInputs(**common)

    def _tensor(self, values: np.ndarray) -> Tensor:
        tensor = torch.from_numpy(values)
        return tensor.pin_memory() if self._pins else tensor

    @property
    def _pins(self) -> bool:
        # Only pinned memory can be copied to a GPU asynchronously.
        return self.options.pin_memory and usable_gpus() > 0

    def visual(self, rows: Int64[np.ndarray, "B I"], store: RegionStore) -> dict[str, Any]:
        """Read the regions of images into tensors, keyed by `ModelInputs` field.

        Features are read directly into the batch tensor, without an additional copy.
        """
        flat = rows.reshape(-1)
        blind = self.options.visual == "none"
        # Without regions (visual=none), each image gets one real region of zeros.
        counts = np.ones(len(flat), np.int32) if blind else store.num_boxes[flat]
        # At least one region per image, if only padding: a softmax over no elements is NaN.
        regions = 1 if blind else self.options.num_boxes or max(1, int(counts.max()))
        # torch cannot convert a NumPy dtype directly.
        dtype = torch.from_numpy(np.empty(0, store.feature_dtype)).dtype
        feats = torch.empty(
            (len(flat), regions, store.feature_dim), dtype=dtype, pin_memory=self._pins
        )
        if blind:
            feats.zero_()
        else:
            store.read_feats(flat, feats.numpy())
        mask = (np.arange(regions) < counts[:, None]).astype(np.int64)
        # With a single image per example, the tensors have no dimension I.
        shape = rows.shape if rows.shape[1] > 1 else rows.shape[:1]
        visual_pos = None
        if self.options.boxes != "none":
            boxes = np.zeros((len(flat), regions, 4), np.float32)
            if not blind:
                store.read_boxes(flat, boxes)
            visual_pos = self._tensor(
                encode_boxes(boxes, store.image_hw[flat], self.options.boxes)
            ).reshape(*shape, regions, -1)
        return {
            "visual_feats": feats.reshape(*shape, regions, store.feature_dim),
            "visual_pos": visual_pos,
            "visual_attention_mask": self._tensor(mask).reshape(*shape, regions),
        }

    def _texts(
        self,
        examples: Sequence[Example],
        rows: Int64[np.ndarray, "B I"],
        store: RegionStore,
        regions: int,
    ) -> dict[str, Any]:
        """Encode the texts of a batch.

        If examples have choices, each choice is encoded as the second text of a pair. If they have
        grounded boxes, their phrases are located.
        """
        choices = [e.label.texts for e in examples if isinstance(e.label, Choices)]
        if not choices:
            tokens = self.tokenizer([example.text for example in examples])
            encoded: dict[str, Any] = self.text_tensors(tokens)
            if rows.shape[1] == 1 and are_grounded(examples):
                encoded["phrases"] = self._phrases(examples, tokens, rows[:, 0], store, regions)
            return encoded
        if len(choices) != len(examples) or len(set(map(len, choices))) != 1:
            raise ValueError(
                f"in this batch, {len(choices)} of {len(examples)} examples have choices (between "
                f"{min(map(len, choices))} and {max(map(len, choices))} each), but all examples of "
                "a batch must have the same number of choices; train on the dataset with choices "
                "alone"
            )
        num_choices = len(choices[0])
        # Repeat each text once per choice: (B,) -> (B * C,).
        tokens = self.tokenizer(
            [example.text for example in examples for _ in range(num_choices)],
            [text for texts in choices for text in texts],
        )
        return {
            name: tensor.reshape(len(examples), num_choices, -1)
            for name, tensor in self.text_tensors(tokens).items()
        }

    def _phrases(
        self,
        examples: Sequence[Example],
        tokens: Tokens,
        rows: Int64[np.ndarray, B],
        store: RegionStore,
        regions: int,
    ) -> PhraseTargets:
        """Match the phrases of grounded examples to tokens and regions."""
        # Without regions (visual=none), no box overlaps, so all targets are zero.
        boxes = np.zeros((len(rows), regions, 4), np.float32)
        counts = np.zeros(len(rows), np.int32)
        if self.options.visual == "regions":
            store.read_boxes(rows, boxes)
            counts = store.num_boxes[rows]
        positions, mask, targets, spans = phrases_of(examples, tokens, boxes, counts)
        return PhraseTargets(
            self._tensor(positions), self._tensor(mask), self._tensor(targets), spans
        )

    def text_tensors(self, tokens: Tokens) -> dict[str, Tensor]:
        """Convert encoded texts to tensors, keyed by `ModelInputs` field."""
        return {
            "input_ids": self._tensor(tokens.input_ids),
            "attention_mask": self._tensor(tokens.attention_mask),
            "token_type_ids": self._tensor(tokens.token_type_ids),
        }

    def _pretraining(
        self,
        examples: Sequence[Example],
        rows: Int64[np.ndarray, B],
        store: RegionStore,
        goals: np.ndarray | None,
        rng: np.random.Generator,
        visual: dict[str, Any],
        texts: Texts | None,
        corpus_indices: Int64[np.ndarray, B] | None,
        options: PretrainingSection,
    ) -> dict[str, Any]:
        """Mask texts and regions, and build the pretraining targets.

        The order of the random draws must not change, or a seed would no longer reproduce earlier
        batches.
        """
        first = [example.text for example in examples]
        second: list[str] | None = None
        matched: Bool[np.ndarray, B] = np.ones(len(first), bool)
        if self.needs_texts:
            assert texts is not None, "pass the texts of the corpus: Collate.needs_texts is true"
            assert corpus_indices is not None
            first, second, matched = pretraining.pair_texts(
                first, corpus_indices, texts, options, rng
            )
        tokens = self.tokenizer(first, second)
        input_ids, mlm_labels = pretraining.mask_tokens(tokens, self.tokenizer, options, rng)
        feats = feat_targets = visual["visual_feats"]
        feat_mask = np.zeros(feats.shape[:2], np.float32)
        labels: dict[str, Any] = {}
        if self.options.visual == "regions":
            # Masking overwrites the features in place, so the targets are copied first.
            feat_targets = self._tensor(feats.numpy().copy()) if options.region_rate else feats
            feat_mask = pretraining.mask_regions(feats.numpy(), rows, store, options, rng)
            # LXMERT predicts the labels of all regions, not only of the masked ones.
            labels = self._region_labels(rows, store, feats.shape[1])
        answers = None if goals is None else pretraining.draw_answers(goals, matched, rng)
        masked = PretrainingTargets(
            mlm_labels=self._tensor(mlm_labels),
            is_matched=self._tensor(matched.astype(np.int64)) if self.needs_texts else None,
            feat_mask=self._tensor(feat_mask),
            feat_targets=feat_targets,
            answer_labels=None if answers is None else self._tensor(answers),
            **labels,
        )
        return (
            visual
            | self.text_tensors(tokens)
            | {
                "input_ids": self._tensor(input_ids),
                "pretraining": masked,
            }
        )

    def _region_labels(
        self, rows: Int64[np.ndarray, B], store: RegionStore, regions: int
    ) -> dict[str, Tensor]:
        """Read the detector's classes and attributes for all regions, and their probabilities."""
        columns = store.read_labels(rows, regions)
        labels = {}
        for kind in ("obj", "attr"):
            if f"{kind}_ids" in columns and f"{kind}_probs" in columns:
                ids = columns[f"{kind}_ids"].astype(np.int64)
                # A region without a label has weight 0.
                weights = np.where(ids >= 0, columns[f"{kind}_probs"], 0).astype(np.float32)
                labels[f"{kind}_labels"] = self._tensor(np.where(ids >= 0, ids, IGNORED))
                labels[f"{kind}_weights"] = self._tensor(weights)
        return labels
