"""What each figure of a run means: the text that TensorBoard shows at its chart, and a table of the documentation."""

from fnmatch import fnmatchcase

MEANINGS = {
    "loss/total": "The loss that is minimised: the sum of its parts, without weight decay. Run train: "
    "augmented batches, the mean since the previous point. Run eval: a fixed few validation images, not augmented.",
    "loss/classification": "The part of the loss that is about classes. SSD and FCOS: summed over anchors or points "
    "and divided by the number of matched ones. The classifier of stage 1: the mean over images.",
    "loss/localization": "The part of the loss that is about the places of boxes, of matched anchors or points alone.",
    "loss/centerness": "FCOS: the part of the loss about the distance of a matched point from the centre of its box.",
    "loss/rpn_classification": "Faster R-CNN, region proposals: object or background, the mean over the anchors drawn.",
    "loss/rpn_localization": "Faster R-CNN, region proposals: the places of the boxes of matched anchors.",
    "loss/box_classification": "Faster R-CNN, second stage: the classes, the mean over the proposals drawn.",
    "loss/box_localization": "Faster R-CNN, second stage: the places of the boxes of matched proposals.",
    "anchors/positives_per_image": "Anchors that are matched to an object. Near 0: the anchors do not fit the objects.",
    "anchors/negatives_per_image": "Anchors of the background that count in the loss. Hard-example mining limits them.",
    "anchors/recall_50": "The share of objects that an anchor covers with an IoU of at least .5, before the network "
    "changes it. A low share: look at `detect inspect`.",
    "points/positives_per_image": "FCOS: points that are matched to an object.",
    "rpn/positives_per_image": "Faster R-CNN: anchors drawn for the loss of the region proposals that match an object.",
    "rpn/recall_50": "The share of objects that a region proposal covers with an IoU of at least .5. It limits AP50.",
    "rpn/recall_70": "The share of objects that a region proposal covers with an IoU of at least .7.",
    "box/positives_per_image": "Faster R-CNN: proposals drawn for the loss of the second stage that match an object.",
    "top1/batch": "The share of crops or images of a training batch whose class is right.",
    "training/rate": "The learning rate.",
    "training/gradient_norm": "The norm of all gradients together, before clipping.",
    "training/loss_scale": "Mixed precision: the factor that keeps small gradients from becoming 0.",
    "training/images_per_second": "Training images a second, without the time of evaluations.",
    "training/data_wait_share": "The share of a step's time that waits for data. Above .1: the input limits the speed.",
    "training/memory_mb": "Memory of the process in MiB. It may not grow for ever.",
    "*_AP/*": "AP of one class on the split.",
    "*/AP": "COCO's AP: the mean over IoU thresholds .50 to .95 and over classes.",
    "*/AP50": "AP at an IoU of .50.",
    "*/AP75": "AP at an IoU of .75.",
    "*/APs": "AP of small objects, up to 32 x 32 pixels of the original image.",
    "*/APm": "AP of medium objects, from 32 x 32 to 96 x 96 pixels of the original image.",
    "*/APl": "AP of large objects, above 96 x 96 pixels of the original image.",
    "*/AR1": "Average recall with at most 1 detection an image, the mean over IoU thresholds .50 to .95.",
    "*/AR10": "Average recall with at most 10 detections an image.",
    "*/AR100": "Average recall with at most 100 detections an image.",
    "*/ARs": "Average recall of small objects, with at most 100 detections an image.",
    "*/ARm": "Average recall of medium objects, with at most 100 detections an image.",
    "*/ARl": "Average recall of large objects, with at most 100 detections an image.",
    "*/top1": "The share of crops or images whose class is right.",
    "*/mean": "The mean over classes of the share that is right, so that a frequent class does not hide a rare one.",
    "*_errors/classification": "What AP50 gains if each box of a wrong class at the right place gets the right class.",
    "*_errors/localization": "What AP50 gains if each box of the right class with an IoU of .1 to .5 is at its place.",
    "*_errors/both": "What AP50 gains without the boxes of a wrong class and with an IoU of .1 to .5.",
    "*_errors/duplicate": "What AP50 gains without second boxes of an object that is found.",
    "*_errors/background": "What AP50 gains without boxes where there is no object.",
    "*_errors/missed": "What AP50 gains if the objects that no box is near are not counted.",
    "final/seconds": "Seconds of training in all stages, for the comparison of runs.",
}
"""Tags as in TensorBoard -> meaning. `*` stands for a split or a class. The first pattern that fits counts."""


def meaning(tag: str) -> str:
    """The meaning of a figure, by its tag in TensorBoard; empty if it is a hook's own."""
    name = tag.removeprefix("final/") if tag != "final/seconds" else tag
    return next((text for pattern, text in MEANINGS.items() if fnmatchcase(name, pattern)), "")
