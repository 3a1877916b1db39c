"""People compare responses on a page of ours; their answers become preference rows. Needs the extra `feedback`."""
