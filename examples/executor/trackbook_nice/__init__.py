"""An executor for Trackbook that runs tasks as processes of low priority."""
