"""Masks in the formats of other tools: COCO JSON, PNG masks, labelme JSON."""
