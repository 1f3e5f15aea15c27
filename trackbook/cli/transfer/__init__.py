"""Files and folders on their way between this machine and a pipeline's folder."""
