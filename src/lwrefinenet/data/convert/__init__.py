"""From the layouts in which people label pictures to a data folder of one's own: one reader per format, one writer."""
