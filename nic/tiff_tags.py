"""Which tags of a TIFF, and of the main directory of EXIF, say what."""

from __future__ import annotations

from PIL import ExifTags

DESCRIPTIVE = {
    ExifTags.Base.DocumentName,
    ExifTags.Base.ImageDescription,
    ExifTags.Base.Make,
    ExifTags.Base.Model,
    ExifTags.Base.PageName,
    ExifTags.Base.Software,
    ExifTags.Base.DateTime,
    ExifTags.Base.Artist,
    ExifTags.Base.HostComputer,
    ExifTags.Base.Copyright,
    ExifTags.IFD.Exif,
    ExifTags.IFD.GPSInfo,
}
"""What a TIFF's picture shows and where it comes from: kept, as EXIF."""

RENDERING = {
    ExifTags.Base.Orientation,
    ExifTags.Base.XResolution,
    ExifTags.Base.YResolution,
    ExifTags.Base.ResolutionUnit,
}
"""How to show it."""

OTHER_PICTURES = {ExifTags.Base.SubIFDs}
"""Previews, other sizes, or in raw files the picture itself."""

LAYOUT = {*range(254, 700)} - DESCRIPTIVE - RENDERING - OTHER_PICTURES
"""Where the samples stand in the file and in what form: TIFF 6.0 has its tags in this range."""

IPTC = {ExifTags.Base.IPTCNAA, ExifTags.Base.ImageResources}
"""The second is Photoshop's block, which holds IPTC too."""

OWN_FIELDS = {ExifTags.Base.XMLPacket, ExifTags.Base.InterColorProfile}
"""XMP and ICC profile, which a `Picture` has apart from EXIF."""
