"""How much of a document is read, and what reading it may cost."""

FILE_BYTES = 64 << 20
TEXT_BYTES = 4 << 20  # in UTF-8
XML_BYTES = 32 << 20  # of a DOCX, unpacked
PAGES = 1000  # in one call
SECONDS = 20
MEMORY_BYTES = 1 << 30  # of the process that reads it, where the system can hold it to that
DEPTH = 200  # of XML
