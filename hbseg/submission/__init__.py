"""The submission: a CSV of run-length codes, one row for each image and bone.

Header `image_name,class,rle`; images in path order, the 29 bones in class order; `image_name` is
the file's name without its folder; an empty mask is an empty field. UTF-8 without byte order mark,
each line ends with LF.

Everything here reads row by row: memory does not grow with the rows of a file, but for the names of
its images. Nothing here needs numpy before masks are combined.
"""

from hbseg.submission.table import HEADER, NATIVE_SIDE, Image, by_name, header, read, rows
from hbseg.submission.validation import MAX_PROBLEMS, validate

__all__ = [
    "HEADER",
    "MAX_PROBLEMS",
    "NATIVE_SIDE",
    "Image",
    "by_name",
    "header",
    "read",
    "rows",
    "validate",
]
