"""The table of region file formats, which ``vlray convert`` and ``vlray compare`` share."""

from __future__ import annotations

from dataclasses import dataclass

Names = tuple[str, ...]

_READERS = "vlray.formats.readers."
_WRITERS = "vlray.formats.writers."


@dataclass(frozen=True)
class FormatInfo:
    """A format of region files.

    Attributes:
        about: The layout in a few words; mentions "pickled" if reading needs ``--trust-pickle``.
        used_by: Projects whose code reads the format.
        reader: ``module:Class`` of the reader; empty if the format is not read under this name.
        writer: ``module:Class`` of the writer; empty if the format is not written.
        read_as: Format whose reader reads what the writer wrote, if it has another name.
        out: What the writer creates, such as ``OUT.tsv`` or ``a folder``.
        lacks: What an output has and the format cannot hold.
        class_probs: Whether the format holds the probabilities of all classes.
        needs_trust: Whether reading everything that the writer wrote needs ``--trust-pickle``.
        container: Kind of file or folder, as `vlray.formats.describe` names it.
        fields: Names of arrays, columns or entries, separated by spaces; the nearest formats of an
            unknown file are found by them.
    """

    about: str
    used_by: str
    container: str
    fields: str
    reader: str = ""
    writer: str = ""
    read_as: str = ""
    out: str = "a folder"
    lacks: Names = ()
    class_probs: bool = False
    needs_trust: bool = False


_LABELS = ("classes and scores", "attributes")
_MILVLG = "x bbox num_bbox image_h image_w"
_MMF = "bbox num_boxes objects cls_prob image_width image_height"
_VOLTA = "features boxes img_h img_w obj_id obj_conf attr_id attr_conf"
_UNITER = "features norm_bb conf soft_labels"
_FRACTIONS = "boxes in pixels (it has fractions)"
_ROWS = "image_features image_bb spatial_features pos_boxes"

FORMATS = {
    "tsv10": FormatInfo(
        "LXMERT's TSV of ten columns, base64",
        "LXMERT, VisualBERT in Hugging Face's demo",
        "text",
        "img_id img_h img_w objects_id objects_conf attrs_id attrs_conf num_boxes boxes features",
        reader=_READERS + "tsv:Tsv10Reader",
        writer=_WRITERS + "tsv:Tsv10Export",
        out="OUT.tsv",
    ),
    "tsv6": FormatInfo(
        "the original TSV of six columns, no labels",
        "bottom-up attention, and all scripts that start from its trainval.zip",
        "text",
        "image_id image_w image_h num_boxes boxes features",
        reader=_READERS + "tsv:Tsv6Reader",
        writer=_WRITERS + "tsv:Tsv6Export",
        out="OUT.tsv",
        lacks=_LABELS,
    ),
    "vinvl": FormatInfo(
        "VinVL's predictions.tsv, Oscar's feature.tsv",
        "VinVL, Oscar",
        "text",
        "objects rect class conf feature num_boxes features",
        reader=_READERS + "vinvl:VinvlReader",
    ),
    "vinvl-tsv": FormatInfo(
        "VinVL's predictions.tsv with its .lineidx",
        "VinVL, scene_graph_benchmark",
        "text",
        "objects rect class conf feature attributes attr_scores",
        writer=_WRITERS + "vinvl:VinvlExport",
        read_as="vinvl",
        out="OUT.tsv and OUT.lineidx",
        lacks=("image sizes",),
    ),
    "oscar": FormatInfo(
        "Oscar's feature.tsv (2054-d) and label.tsv with their .lineidx",
        "Oscar, Oscar+, VinVL's captioning, retrieval and VQA",
        "text",
        "num_boxes features class rect conf",
        writer=_WRITERS + "vinvl:OscarExport",
        read_as="vinvl",
        out="OUT.tsv, OUT.label.tsv and their .lineidx",
        lacks=("image sizes", _FRACTIONS, *_LABELS),
    ),
    "npz": FormatInfo(
        "one .npz per image: MILVLG, MCAN, openvqa",
        "MILVLG's bottom-up-attention.pytorch",
        "npz",
        _MILVLG + " info",
        reader=_READERS + "npz:NpzReader",
        writer=_WRITERS + "npz:NpzExport",
        needs_trust=True,
    ),
    "mcan": FormatInfo(
        "one .npz per image, with features as (D, R)",
        "MCAN, openvqa (VQA)",
        "npz",
        _MILVLG,
        writer=_WRITERS + "npz:McanExport",
        read_as="npz",
        lacks=_LABELS,
    ),
    "openvqa": FormatInfo(
        "one .npz per image, with features as (R, D)",
        "openvqa (GQA)",
        "npz",
        "x bbox width height",
        writer=_WRITERS + "npz:OpenvqaExport",
        read_as="npz",
        lacks=_LABELS,
    ),
    "cocobu": FormatInfo(
        "self-critical's folders cocobu_att (npz), cocobu_fc and cocobu_box (npy)",
        "self-critical, AoANet, ORT, xmodaler (cocobu_att)",
        "npz",
        "feat",
        reader=_READERS + "cocobu:CocobuReader",
        writer=_WRITERS + "cocobu:CocobuExport",
        lacks=("image sizes", *_LABELS),
    ),
    "mmf": FormatInfo(
        "MMF's X.npy and X_info.npy (pickled)",
        "MMF, VisualBERT, ViLBERT, M4C, Hateful Memes",
        "npy",
        _MMF,
        reader=_READERS + "npy:NpyReader",
        writer=_WRITERS + "mmf:MmfExport",
        class_probs=True,
        needs_trust=True,
    ),
    "uniter-npz": FormatInfo(
        "UNITER's .npz per image, boxes as fractions",
        "UNITER (convert_imgdir.py)",
        "npz",
        _UNITER,
        reader=_READERS + "uniter:UniterNpzReader",
        writer=_WRITERS + "uniter:UniterNpzExport",
        lacks=("image sizes", _FRACTIONS),
        class_probs=True,
    ),
    "lmdb-uniter": FormatInfo(
        "UNITER's LMDB of these arrays",
        "UNITER",
        "lmdb",
        _UNITER,
        reader=_READERS + "uniter:UniterLmdbReader",
        writer=_WRITERS + "lmdb_file:UniterLmdbExport",
        lacks=("image sizes", _FRACTIONS),
        class_probs=True,
    ),
    "lmdb": FormatInfo(
        "LMDB of MMF, VOLTA, ViLBERT (pickled)",
        "MMF, VOLTA, ViLBERT",
        "lmdb",
        f"{_MMF} {_VOLTA}",
        reader=_READERS + "lmdb_file:LmdbReader",
    ),
    "lmdb-volta": FormatInfo(
        "VOLTA's and ViLBERT's LMDB",
        "VOLTA, ViLBERT",
        "lmdb",
        _VOLTA,
        writer=_WRITERS + "lmdb_file:VoltaLmdbExport",
        read_as="lmdb",
        class_probs=True,
        needs_trust=True,
    ),
    "lmdb-mmf": FormatInfo(
        "MMF's LMDB (name OUT with .lmdb)",
        "MMF",
        "lmdb",
        _MMF,
        writer=_WRITERS + "lmdb_file:MmfLmdbExport",
        read_as="lmdb",
        class_probs=True,
        needs_trust=True,
    ),
    "hdf5": FormatInfo(
        "VOLTA's HDF5, a group per image",
        "VOLTA (h5_to_lmdb.py)",
        "hdf5",
        _VOLTA,
        reader=_READERS + "hdf5:Hdf5Reader",
        writer=_WRITERS + "hdf5:Hdf5Export",
        out="OUT.h5 or OUT.hdf5",
    ),
    "m2-hdf5": FormatInfo(
        "HDF5 with ID_features, ID_boxes and ID_cls_prob",
        "M2 (meshed-memory-transformer) and captioning code derived from it",
        "hdf5",
        "_features _boxes _cls_prob",
        reader=_READERS + "m2:M2Reader",
        writer=_WRITERS + "m2:M2Export",
        out="OUT.hdf5",
        lacks=("image sizes", *_LABELS),
        class_probs=True,
    ),
    "butd-hdf5": FormatInfo(
        "HDF5 rows of BUTD-VQA and BAN (ids are pickled)",
        "bottom-up-attention-vqa (a fixed number of boxes), BAN (any number)",
        "hdf5",
        _ROWS,
        reader=_READERS + "hdf5:Hdf5RowsReader",
        writer=_WRITERS + "butd:ButdExport",
        out="OUT.hdf5",
        lacks=("sizes of images without regions", *_LABELS),
        needs_trust=True,
    ),
    "visdial-hdf5": FormatInfo(
        "HDF5 arrays of the VisDial challenge's starter code",
        "visdial-challenge-starter-pytorch",
        "hdf5",
        "image_ids image_id features boxes classes scores",
        reader=_READERS + "visdial:VisdialReader",
    ),
    "visualbert-th": FormatInfo(
        "uclanlp's VisualBERT: a dictionary of tensors in one .th file",
        "uclanlp/visualbert",
        "torch",
        "features boxes",
        reader=_READERS + "tensors:ChunkReader",
    ),
    "grid-pth": FormatInfo(
        "grid-feats-vqa's .pth per image, a tensor (1, D, H, W)",
        "grid-feats-vqa, MMF (depth_first: true)",
        "torch",
        "",
        reader=_READERS + "tensors:GridReader",
        writer=_WRITERS + "grids:GridExport",
        lacks=("image sizes", "boxes in pixels (it has cells)", *_LABELS),
    ),
    "coco-json": FormatInfo(
        "COCO's results.json and instances.json: boxes without vectors",
        "pycocotools, Detectron2, FiftyOne and most detection tools",
        "json",
        "image_id category_id bbox score images annotations categories",
        reader=_READERS + "coco:CocoReader",
        writer=_WRITERS + "coco:CocoExport",
        lacks=("feature vectors", "attributes"),
    ),
    "webdataset": FormatInfo(
        "WebDataset's tar files with a .npz per image",
        "webdataset",
        "tar",
        "boxes visual_feats image_height image_width obj_ids obj_probs attr_ids attr_probs",
        reader=_READERS + "webdataset:WebdatasetReader",
        writer=_WRITERS + "webdataset:WebdatasetExport",
        class_probs=True,
    ),
    "hf": FormatInfo(
        "Hugging Face dataset: Parquet with typed features, and a card",
        "datasets.load_dataset, the Hub's viewer, DuckDB, Polars, pandas",
        "parquet",
        "image_id path split image_height image_width num_boxes boxes visual_feats obj_ids",
        reader=_READERS + "parquet:HfReader",
        writer=_WRITERS + "hf:HfExport",
    ),
    "arrow-hf": FormatInfo(
        "Arrow stream of Hugging Face's LXMERT demo",
        "Hugging Face's LXMERT demo",
        "arrow",
        "img_id boxes roi_features sizes obj_ids obj_probs attr_ids attr_probs preds_per_image",
        reader=_READERS + "arrow_stream:HfArrowReader",
    ),
    "arrow-vltk": FormatInfo(
        "Arrow stream of vltk",
        "vltk",
        "arrow",
        "imgid box features object_ids attr_ids",
        reader=_READERS + "arrow_stream:VltkArrowReader",
    ),
}
"""All formats, by name. Those with a reader are tried on an unknown file in this order."""

ALIASES = {"npy": "mmf", "hdf5-butd": "butd-hdf5"}
"""Former names of formats, which ``--format`` accepts as well."""

READ = tuple(name for name, info in FORMATS.items() if info.reader)
WRITTEN = tuple(name for name, info in FORMATS.items() if info.writer)


def list_formats() -> str:
    """Return the table of formats as text, for ``vlray convert --formats``."""
    width = max(map(len, FORMATS))
    lines = []
    for name, info in FORMATS.items():
        use = "read" if not info.writer else "written" if not info.reader else "read, written"
        lines.append(f"{name:{width}}  {use}: {info.about}")
        lines.append(f"{'':{width}}  used by {info.used_by}")
        if info.writer:
            back = f"; read back as {info.read_as}" if info.read_as else ""
            lacks = f"; without {', '.join(info.lacks)}" if info.lacks else ""
            lines.append(f"{'':{width}}  writes {info.out}{back}{lacks}")
    return "\n".join(lines)
